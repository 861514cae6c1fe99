//! Durable entities: one commit per message, replies that are remembered, stored messages.

use std::{path::Path, sync::Arc, time::Duration};

use actor_core::{
    CallError, Client,
    hosting::Hosting,
    store::{Store, TaskExecutor, Value, sql::Sql},
};
use actor_tests::hosting::{client, host_with, url};
use tempfile::TempDir;

use super::kinds::{Account, Broke, Gate, SOON};

/// One life of a node on the database in `folder`.
pub(crate) async fn life(folder: &Path) -> (Arc<Hosting>, Client) {
    life_with(folder, &Gate::default()).await
}

async fn life_with(folder: &Path, gate: &Gate) -> (Arc<Hosting>, Client) {
    let (gate, url) = (gate.clone(), url(folder));
    let hosting = host_with::<(Account,)>(&url, Arc::new(TaskExecutor), |config| {
        config.resources.insert(gate);
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client)
}

/// Ends a life without a drain, as a crash does.
async fn crash(hosting: Arc<Hosting>) {
    hosting.stop().await;
    hosting.store().close().await.expect("closes");
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    let counted = store.read("count", move |c| {
        Box::pin(async move {
            c.query_one(&Sql::same(sql), Vec::<Value>::new())
                .await?
                .expect("a row")
                .int(0)
        })
    });
    counted.await.expect("counts")
}

#[tokio::test]
async fn an_acknowledged_write_survives_the_process() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    assert_eq!(client.entity::<Account>("a").deposit(5).await, Ok(5));
    crash(hosting).await;

    let (_hosting, client) = life(folder.path()).await;

    assert_eq!(client.entity::<Account>("a").balance().await, Ok(5));
}

#[tokio::test]
async fn an_error_restores_the_state_as_it_was_before_the_message() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    account.deposit(3).await.expect("deposits");

    let refused = account.withdraw(5).await;

    assert_eq!(refused, Err(CallError::Rejected(Broke)));
    assert_eq!(account.balance().await, Ok(3));
}

#[tokio::test]
async fn an_error_after_messages_in_flight_restores_the_last_accepted_state() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");

    let (first, refused, second) =
        tokio::join!(account.deposit(3), account.withdraw(5), account.deposit(1));

    assert_eq!(
        (first, refused, second),
        (Ok(3), Err(CallError::Rejected(Broke)), Ok(4))
    );
}

// INB-4, MSG-7, MSG-13, MSG-19: the stored reply answers, the handler does not run again
#[tokio::test]
async fn a_repeated_key_counts_once_also_in_the_next_life() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    assert_eq!(
        client.entity::<Account>("a").deposit(5).key("k").await,
        Ok(5)
    );
    assert_eq!(
        client.entity::<Account>("a").deposit(5).key("k").await,
        Ok(5)
    );
    crash(hosting).await;

    let (hosting, client) = life(folder.path()).await;

    assert_eq!(
        client.entity::<Account>("a").deposit(5).key("k").await,
        Ok(5)
    );
    assert_eq!(client.entity::<Account>("a").balance().await, Ok(5));
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM replies").await,
        1
    );
}

// MSG-22: typed failures are stored once and served again
#[tokio::test]
async fn a_repeated_key_finds_the_stored_error() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");

    let first = account.withdraw(1).key("k").await;
    account.deposit(10).await.expect("deposits");
    let second = account.withdraw(1).key("k").await;

    assert_eq!(first, Err(CallError::Rejected(Broke)));
    assert_eq!(second, Err(CallError::Rejected(Broke)));
    assert_eq!(account.balance().await, Ok(10));
}

#[tokio::test]
async fn a_key_used_with_other_arguments_is_an_error() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    account.deposit(1).key("k").await.expect("deposits");

    assert_eq!(account.deposit(2).key("k").await, Err(CallError::KeyReused));
    assert_eq!(
        account.withdraw(1).key("k").await,
        Err(CallError::KeyReused)
    );
    assert_eq!(account.balance().await, Ok(1));
}

// MSG-8, MSG-9 in our semantics: long keys are deduplicated as short ones are
#[tokio::test]
async fn long_keys_and_concurrent_repeats_count_once() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    let key = "k".repeat(1000);

    let repeats = (0..8).map(|_| async { account.deposit(5).key(&key).await });
    let answers = futures_util::future::join_all(repeats).await;

    assert!(answers.iter().all(|answer| *answer == Ok(5)), "{answers:?}");
    assert_eq!(account.balance().await, Ok(5));
}

// A repeat found at commit must not harm calls that ran ahead behind it.
#[tokio::test]
async fn a_repeat_does_not_fail_the_calls_behind_it() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    account.deposit(5).key("k").await.expect("deposits");

    let (repeat, behind, last) = tokio::join!(
        account.deposit(5).key("k"),
        account.deposit(1),
        account.deposit(1)
    );

    assert_eq!((repeat, behind, last), (Ok(5), Ok(6), Ok(7)));
}

// ENT-3, ENT-4 in our semantics: the panicking call ends, what was accepted stays
#[tokio::test]
async fn a_panic_loses_nothing_that_was_accepted() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");

    let (before, crashed, after) =
        tokio::join!(account.deposit(2), account.fail(), account.deposit(1));

    assert_eq!((before, after), (Ok(2), Ok(3)));
    assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
}

// SND-5, MSG-20, MSG-21: the caller gets an error, nothing is stored, others go on
#[tokio::test]
async fn an_unwritable_reply_is_an_error_and_leaves_no_trace() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");

    let answer = account.unwritable().key("k").await;

    assert!(matches!(answer, Err(CallError::Decode(_))), "{answer:?}");
    assert_eq!(account.balance().await, Ok(0));
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM replies").await,
        0
    );
}

#[tokio::test]
async fn a_state_over_the_bound_fails_its_message_before_the_commit() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    account.deposit(1).await.expect("deposits");

    let answer = account.grow(2 * 1024 * 1024).await;

    assert!(matches!(answer, Err(CallError::TooLarge(_))), "{answer:?}");
    assert_eq!(account.deposit(1).await, Ok(2));
}

// SND-3, SND-9: stored, processed once, gone
#[tokio::test]
async fn a_durable_cast_is_stored_and_runs_once() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");

    for amount in 1..=5 {
        account.deposit(amount).cast().await.expect("stored");
    }

    assert_eq!(
        account.balance().await,
        Ok(15),
        "casts and calls of one sender stay in order"
    );
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );
}

// MSG-16, MSG-2, MSG-6: in order, once, after a restart
#[tokio::test]
async fn stored_messages_survive_a_crash_and_keep_their_order() {
    let folder = TempDir::new().expect("a folder");
    let gate = Gate::default();
    let (hosting, client) = life_with(folder.path(), &gate).await;
    let account = client.entity::<Account>("a");
    account.wait().cast().await.expect("stored");
    gate.entered().await;
    for text in ["one", "two", "three"] {
        account.note(text.into()).cast().await.expect("stored");
    }
    crash(hosting).await;

    let gate = Gate::default();
    gate.open(1);
    let (hosting, client) = life_with(folder.path(), &gate).await;

    let account = client.entity::<Account>("a");
    assert_eq!(
        account.notes().timeout(SOON).await,
        Ok(["one", "two", "three"].map(Into::into).into())
    );
    assert_eq!(account.balance().await, Ok(1));
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );
}

// INB-1: what does not fit stays in SQL, in order
#[tokio::test]
async fn more_stored_messages_than_the_mailbox_holds_all_run_in_order() {
    let folder = TempDir::new().expect("a folder");
    let gate = Gate::default();
    let (hosting, client) = life_with(folder.path(), &gate).await;
    let account = client.entity::<Account>("a");
    account.wait().cast().await.expect("stored");
    gate.entered().await;
    for number in 0..100 {
        account
            .note(number.to_string())
            .cast()
            .await
            .expect("stored");
    }

    gate.open(1);

    let mut notes = Vec::new();
    while notes.len() < 100 {
        notes = account
            .notes()
            .timeout(SOON)
            .await
            .expect("rows leave room for calls");
    }
    let expected: Vec<_> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(notes, expected);
    drop(hosting);
}

#[tokio::test]
async fn what_a_handler_sends_commits_with_it_or_not_at_all() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let (a, b) = (client.entity::<Account>("a"), client.entity::<Account>("b"));
    a.deposit(10).await.expect("deposits");

    a.send("b".into(), 4).await.expect("sends");
    let refused = a.send("b".into(), 40).await;

    assert_eq!(refused, Err(CallError::Rejected(Broke)));
    assert_eq!((a.balance().await, b.balance().await), (Ok(6), Ok(4)));
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );
}

#[tokio::test]
async fn an_event_reaches_its_topic_and_the_entity_its_key_names() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let mut money = client.subscribe("money", None).await.expect("listens");

    client
        .entity::<Account>("a")
        .announce("b".into(), 4)
        .await
        .expect("announces");

    let event = money.subscription.next().await.expect("an event");
    assert_eq!(&*event.data, br#"{"to":"b","amount":4}"#);
    assert_eq!(event.position.offset, 1);
    let again = client
        .subscribe("money", Some(money.position))
        .await
        .expect("listens");
    assert!(!again.recovered || again.backlog.len() == 1, "{again:?}");
    let b = client.entity::<Account>("b");
    assert_eq!(b.notes().await, Ok(vec!["moved 4".into()]));
}

#[tokio::test]
async fn a_call_awaited_in_a_durable_handler_is_answered() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;

    assert_eq!(
        client.entity::<Account>("a").mirror("b".into()).await,
        Ok(1)
    );
    assert_eq!(client.entity::<Account>("b").balance().await, Ok(1));
}

// MSG-29: not before its time, then once
#[tokio::test]
async fn a_delayed_message_runs_once_and_not_early() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    let mut money = client.subscribe("money", None).await.expect("listens");
    let (before, delay) = (hosting.now(), Duration::from_millis(80));

    account
        .announce("b".into(), 1)
        .after(delay)
        .await
        .expect("stored");

    money.subscription.next().await.expect("an event");
    assert!(hosting.now() - before >= delay);
    assert_eq!(
        count(
            hosting.store(),
            "SELECT COUNT(*) FROM mailbox WHERE due_at > 0"
        )
        .await,
        0
    );
}

// MSG-11, INB-7, MSG-23: one bad row costs itself only, and is kept
#[tokio::test]
async fn an_undecodable_message_goes_to_the_dead_letters_alone() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    client
        .entity::<Account>("a")
        .deposit(1)
        .after(Duration::from_secs(3600))
        .await
        .expect("stored");
    let spoil = hosting.store().write("spoil", |c| {
        Box::pin(async move {
            let sql = Sql::same("UPDATE mailbox SET args = x'c1', due_at = NULL");
            c.execute(&sql, Vec::<Value>::new()).await
        })
    });
    spoil.await.expect("spoils");
    crash(hosting).await;

    let (hosting, client) = life(folder.path()).await;
    assert_eq!(client.entity::<Account>("a").deposit(5).await, Ok(5));

    while count(hosting.store(), "SELECT COUNT(*) FROM dead_letters").await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );
}

#[tokio::test]
async fn an_undecodable_state_costs_its_entity_only() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    client
        .entity::<Account>("a")
        .deposit(1)
        .await
        .expect("deposits");
    client
        .entity::<Account>("b")
        .deposit(1)
        .await
        .expect("deposits");
    let spoil = hosting.store().write("spoil", |c| {
        Box::pin(async move {
            let sql = Sql::same("UPDATE entities SET state = x'c1' WHERE id = 'a'");
            c.execute(&sql, Vec::<Value>::new()).await
        })
    });
    spoil.await.expect("spoils");
    crash(hosting).await;

    let (_hosting, client) = life(folder.path()).await;

    let answer = client.entity::<Account>("a").balance().await;
    assert!(
        matches!(&answer, Err(CallError::Crashed(why)) if why.contains("account/a")),
        "{answer:?}"
    );
    assert_eq!(client.entity::<Account>("b").balance().await, Ok(1));
}
