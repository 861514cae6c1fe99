//! Columns that hold what they are not for: whatever stands in one, it costs its row and no other.

use std::{path::Path, sync::Arc, time::Duration};

use actor_core::{
    CallError, Client,
    hosting::Hosting,
    store::{
        Sql, Store, TaskExecutor, Value,
        dead_letters::{self, DeadLetter},
    },
};
use actor_tests::{
    Deadline,
    hosting::{client, host_with, url},
};
use tempfile::TempDir;

use super::kinds::{Account, SOON};

const LATER: Duration = Duration::from_secs(3600);

/// What is done to one row each: SQLite stores any type in any column.
const SPOILED: &[&str] = &[
    "id = x'01'",
    "id = 'no bytes'",
    "method = x'00ff'",
    "method = CAST(x'ff' AS TEXT)",
    "codec = x'00'",
    "args = 'no bytes'",
    "args = 1.5",
    "context = 7",
    "attempts = 'many'",
    "attempts = -1",
    "attempts = 9223372036854775807",
    "last_error = x'ff'",
    "expires_at = 'never'",
    "expires_at = 1.5e300",
];

async fn life(folder: &Path) -> (Arc<Hosting>, Client) {
    let hosting = host_with::<(Account,)>(&url(folder), Arc::new(TaskExecutor), |_| {}).await;
    let client = client(&hosting);
    (hosting, client)
}

async fn end(hosting: Arc<Hosting>) {
    hosting.stop().await;
    hosting.store().close().await.expect("closes");
}

async fn change(store: &Store, sql: String, values: Vec<Value>) -> u64 {
    // The text of a statement lives as long as the program; these are few.
    let sql: &'static str = sql.leak();
    let changed = store.write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(sql), values).await })
    });
    changed.await.expect("the store answers")
}

async fn dead(store: &Store) -> Vec<DeadLetter> {
    let listed = store.read("list", |c| {
        Box::pin(async move { dead_letters::list(c, 0, 100).await })
    });
    listed
        .await
        .expect("dead letters can be listed, whatever they hold")
}

/// Says whether it was given up for what it holds, not for what its handler did.
fn is_unreadable(letter: &DeadLetter) -> bool {
    let why = &letter.error;
    why.contains("does not hold") || why.contains("cannot be decoded")
}

/// Waits until nothing is in the mailbox.
async fn emptied(hosting: &Hosting) {
    let left = || async {
        let counted = hosting.store().read("count", |c| {
            Box::pin(async move {
                let count = Sql::same("SELECT COUNT(*) FROM mailbox");
                let row = c.query_one(&count, vec![]).await?;
                row.expect("a count has a row").int(0)
            })
        });
        counted.await.expect("the store answers")
    };
    let found = Deadline::after(SOON).poll("an empty mailbox", async || {
        (left().await == 0).then_some(())
    });
    found.await.expect("everything ran or was given up soon");
}

/// Stores one message to spoil for each way of [`SPOILED`], all before good ones.
async fn spoiled(folder: &Path, then: &str) {
    let (hosting, client) = life(folder).await;
    let account = client.entity::<Account>("a");
    for _ in SPOILED {
        account.deposit(1).after(LATER).await.expect("stored");
    }
    account.deposit(2).after(LATER).await.expect("stored");
    let other = client.entity::<Account>("b");
    other.deposit(3).after(LATER).await.expect("stored");
    let store = hosting.store();
    for (seq, way) in (1_i64..).zip(SPOILED) {
        let sql = format!("UPDATE mailbox SET {way} WHERE seq = $1");
        assert_eq!(change(store, sql, vec![seq.into()]).await, 1, "{way}");
    }
    let all = format!("UPDATE mailbox SET due_at = {then}");
    assert_eq!(change(store, all, vec![]).await, SPOILED.len() as u64 + 2);
    end(hosting).await;
}

async fn each_is_given_up_alone(folder: &Path) {
    let (hosting, client) = life(folder).await;

    hosting.poll(0).await.expect("the others can be read");
    let balance = async |id: &str| client.entity::<Account>(id).balance().timeout(SOON).await;
    let balances = (balance("a").await, balance("b").await);
    emptied(&hosting).await;
    let dead = dead(hosting.store()).await;

    assert_eq!(dead.len(), SPOILED.len(), "{dead:#?}");
    for letter in &dead {
        assert!(is_unreadable(letter), "{letter:?}");
        assert_eq!(
            (letter.kind.as_str(), letter.entity.as_str()),
            ("account", "a")
        );
    }
    assert_eq!(dead.iter().filter(|letter| letter.id.is_none()).count(), 2);
    let shown = |text: &str| dead.iter().any(|letter| letter.method == text);
    assert!(
        shown("x'00ff'") && shown("x'ff'") && shown("deposit"),
        "{dead:#?}"
    );
    assert!(dead.iter().any(|letter| letter.args == b"no bytes"));
    assert_eq!(balances.1, Ok(3), "another entity's message ran");
    let balance = balance("a").await;
    assert_eq!(balance, Ok(2), "the row behind the spoiled ones ran");
    assert_eq!(hosting.sweep().await.expect("sweeps"), 0);
    end(hosting).await;
}

#[tokio::test]
async fn a_message_with_a_bad_column_costs_that_message_only() {
    let folder = TempDir::new().expect("a folder");
    spoiled(folder.path(), "NULL").await;

    each_is_given_up_alone(folder.path()).await;
}

#[tokio::test]
async fn a_timer_with_a_bad_column_costs_that_timer_only() {
    let folder = TempDir::new().expect("a folder");
    // Half a millisecond after a whole one: a time no clock of ours says.
    spoiled(
        folder.path(),
        "CASE WHEN seq = 8 THEN seq + 0.5 ELSE seq END",
    )
    .await;

    each_is_given_up_alone(folder.path()).await;
}

#[tokio::test]
async fn a_message_with_a_bad_column_can_be_discarded_and_replayed() {
    let folder = TempDir::new().expect("a folder");
    spoiled(folder.path(), "NULL").await;
    let (hosting, client) = life(folder.path()).await;
    emptied(&hosting).await;
    let store = hosting.store();
    for letter in dead(store).await {
        let seq = letter.seq;
        let acted = store.write("act", move |c| {
            Box::pin(async move {
                match seq % 2 {
                    0 => dead_letters::discard(c, seq).await,
                    _ => Ok(dead_letters::replay(c, seq).await?.is_some()),
                }
            })
        });
        assert!(acted.await.expect("the store answers"), "{letter:?}");
    }

    hosting.poll(0).await.expect("the others can be read");
    emptied(&hosting).await;

    // What was wrong with counts and times is made anew; the rest is given up again.
    let again = dead(store).await;
    assert!(again.iter().all(is_unreadable));
    let ran = SPOILED.len().div_ceil(2) - again.len();
    let balance = client.entity::<Account>("a").balance().timeout(SOON).await;
    assert_eq!(balance, Ok(2 + ran as i64));
    end(hosting).await;
}

#[tokio::test]
async fn a_state_with_a_bad_column_costs_its_entity_only() {
    for way in [
        "state = 'no bytes'",
        "version = 'one'",
        "shape = -1",
        "updated_at = x'00'",
    ] {
        let folder = TempDir::new().expect("a folder");
        let (hosting, client) = life(folder.path()).await;
        for id in ["a", "b"] {
            let stored = client.entity::<Account>(id).deposit(1).await;
            assert_eq!(stored, Ok(1));
        }
        let sql = format!("UPDATE entities SET {way} WHERE id = 'a'");
        assert_eq!(change(hosting.store(), sql, vec![]).await, 1, "{way}");
        end(hosting).await;

        let (hosting, client) = life(folder.path()).await;
        let balance = async |id: &str| client.entity::<Account>(id).balance().timeout(SOON).await;
        let (spoiled, sound) = (balance("a").await, balance("b").await);

        assert!(
            matches!(spoiled, Err(CallError::Crashed(_))),
            "{way}: {spoiled:?}"
        );
        assert_eq!(sound, Ok(1), "{way}");
        end(hosting).await;
    }
}

#[tokio::test]
async fn a_note_of_a_stored_message_reads_rows_and_not_the_state() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    assert_eq!(account.deposit(5).await, Ok(5));
    // Whoever reads this fails.
    let spoil = "UPDATE entities SET state = x'c1'".to_owned();
    assert_eq!(change(hosting.store(), spoil, vec![]).await, 1);

    hosting.ring("account", &"a".into(), Duration::ZERO);
    let balance = account.balance().timeout(SOON).await;

    assert_eq!(balance, Ok(5));
    end(hosting).await;
}
