//! Poison on a real database file: attempts survive the process, and operators can act.

use std::{path::Path, sync::Arc};

use actor_core::{
    Client,
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

async fn life(folder: &Path) -> (Arc<Hosting>, Client) {
    let hosting = host_with::<(Account,)>(&url(folder), Arc::new(TaskExecutor), |_| {}).await;
    let client = client(&hosting);
    (hosting, client)
}

async fn change(store: &Store, sql: &'static str) -> u64 {
    let changed = store.write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(sql), Vec::<Value>::new()).await })
    });
    changed.await.expect("the store answers")
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    let counted = store.read("count", move |c| {
        Box::pin(async move {
            let row = c.query_one(&Sql::same(sql), Vec::<Value>::new()).await?;
            row.expect("a count has a row").int(0)
        })
    });
    counted.await.expect("the store answers")
}

async fn dead(store: &Store) -> Vec<DeadLetter> {
    let listed = store.read("list", |c| {
        Box::pin(async move { dead_letters::list(c, 0, 10).await })
    });
    listed.await.expect("the store answers")
}

/// Waits until as many messages were given up.
async fn given_up(store: &Store, wanted: usize) -> Vec<DeadLetter> {
    let found = Deadline::after(SOON).poll("dead letters", async || {
        Some(dead(store).await).filter(|dead| dead.len() >= wanted)
    });
    found.await.expect("they are given up soon")
}

/// Waits until a count is as wanted.
async fn counted(store: &Store, sql: &'static str, wanted: i64) {
    let found = Deadline::after(SOON).poll(sql, async || {
        (count(store, sql).await == wanted).then_some(())
    });
    found.await.expect("the count is as wanted soon");
}

#[tokio::test]
async fn poison_is_given_up_over_restarts_and_can_be_replayed_or_discarded() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    account.fail().cast().await.expect("stored");
    account.deposit(5).cast().await.expect("stored");
    let store = hosting.store();
    let failed = "SELECT COUNT(*) FROM mailbox WHERE attempts > 0";
    counted(store, failed, 1).await;
    hosting.stop().await;
    // The pauses between ten attempts take half a minute: the ninth is as good as the first.
    let poison =
        "UPDATE mailbox SET attempts = 9 WHERE method = 'fail' AND attempts BETWEEN 1 AND 8";
    assert_eq!(change(hosting.store(), poison).await, 1);
    hosting.store().close().await.expect("closes");

    let (hosting, client) = life(folder.path()).await;
    let dead_once = given_up(hosting.store(), 1).await;
    let balance = client.entity::<Account>("a").balance().timeout(SOON).await;

    assert_eq!(
        (dead_once[0].attempts, dead_once[0].kind.as_str()),
        (10, "account")
    );
    assert!(dead_once[0].error.contains("asked to"), "{dead_once:?}");
    assert_eq!(balance, Ok(5), "what was behind it went on");
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );

    hosting.stop().await;
    hosting.store().close().await.expect("closes");
    let (hosting, client) = life(folder.path()).await;
    let store = hosting.store();
    let kept = dead(store).await;
    assert_eq!(kept, dead_once, "a restart changes nothing");
    // Cured: the message names a method that works.
    let cured = "UPDATE dead_letters SET method = 'balance'";
    assert_eq!(change(store, cured).await, 1);
    let seq = kept[0].seq;
    let replayed = store.write("replay", move |c| {
        Box::pin(async move { dead_letters::replay(c, seq).await })
    });
    assert!(replayed.await.expect("the store answers").is_some());
    hosting.poll(0).await.expect("polls");
    assert_eq!(
        client.entity::<Account>("a").balance().timeout(SOON).await,
        Ok(5)
    );
    counted(store, "SELECT COUNT(*) FROM mailbox", 0).await;
    assert!(dead(store).await.is_empty());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_given_up_and_can_be_discarded() {
    let folder = TempDir::new().expect("a folder");
    let (hosting, client) = life(folder.path()).await;
    let later = std::time::Duration::from_secs(3600);
    let account = client.entity::<Account>("a");
    account.deposit(1).after(later).await.expect("stored");
    account.deposit(2).after(later).await.expect("stored");
    let spoil = "UPDATE mailbox SET due_at = NULL, context = x'ff00'
        WHERE seq = (SELECT MIN(seq) FROM mailbox)";
    assert_eq!(change(hosting.store(), spoil).await, 1);
    assert_eq!(
        change(hosting.store(), "UPDATE mailbox SET due_at = NULL").await,
        2
    );
    hosting.stop().await;
    hosting.store().close().await.expect("closes");

    let (hosting, client) = life(folder.path()).await;
    let dead_once = given_up(hosting.store(), 1).await;
    let balance = client.entity::<Account>("a").balance().timeout(SOON).await;
    let seq = dead_once[0].seq;
    let discarded = hosting.store().write("discard", move |c| {
        Box::pin(async move { dead_letters::discard(c, seq).await })
    });

    assert_eq!(balance, Ok(2), "the row behind it ran");
    assert!(discarded.await.expect("the store answers"));
    assert!(dead(hosting.store()).await.is_empty());
}
