//! Messages that were lost from memory: found by the sweep, counted, and run after all.

use std::{sync::Arc, time::Duration};

use actor_core::{
    Client,
    hosting::Hosting,
    store::{Sql, Value},
};
use actor_tests::{
    fault::FaultExecutor,
    hosting::{MEMORY, client, host_with},
};

use super::kinds::Account;

const HOUR: Duration = Duration::from_secs(3600);

/// A node that looks at its mailbox only when it is told to.
async fn blind(residents_max: usize) -> (Arc<Hosting>, Client, Arc<FaultExecutor>) {
    let executor = Arc::new(FaultExecutor::default());
    let hosting = host_with::<(Account,)>(MEMORY, executor.clone(), |config| {
        config.serves = false;
        config.residents_max = residents_max;
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client, executor)
}

/// Changes all stored messages behind the node's back; `$1` is now.
async fn change(hosting: &Arc<Hosting>, text: &'static str) {
    let changed = hosting.store().write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(text), vec![Value::NOW]).await })
    });
    assert!(changed.await.expect("the store answers") > 0);
}

/// Two messages nobody has in memory: one that is ready, one whose time has come.
async fn forgotten(hosting: &Arc<Hosting>, client: &Client) {
    for (account, amount) in [("a", 1), ("b", 2)] {
        let account = client.entity::<Account>(account);
        account.deposit(amount).after(HOUR).await.expect("stored");
    }
    change(
        hosting,
        "UPDATE mailbox SET due_at = CASE entity WHEN 'a' THEN NULL ELSE $1 END, created_at = $1",
    )
    .await;
}

#[tokio::test]
async fn the_sweep_finds_stuck_messages_and_lets_them_run() {
    let (hosting, client, executor) = blind(10).await;
    forgotten(&hosting, &client).await;

    executor.advance_ms(29_000);
    let soon = hosting.stuck().await.expect("reads");
    executor.advance_ms(2_000);
    let stuck = hosting.sweep().await.expect("sweeps");
    let accounts = ["a", "b"].map(|id| client.entity::<Account>(id));
    let balances = (accounts[0].balance().await, accounts[1].balance().await);

    assert_eq!((soon, stuck), (0, 2));
    assert_eq!(balances, (Ok(1), Ok(2)), "they ran before who asked later");
    assert_eq!(hosting.stuck().await.expect("reads"), 0);
    hosting.stop().await;
}

#[tokio::test]
async fn what_is_held_for_a_reason_is_not_stuck() {
    let (hosting, client, executor) = blind(10).await;
    forgotten(&hosting, &client).await;
    executor.advance_ms(31_000);

    change(
        &hosting,
        "UPDATE mailbox SET kind = 'later', created_at = $1 - 60000",
    )
    .await;
    let not_hosted = hosting.stuck().await.expect("reads");
    change(
        &hosting,
        "UPDATE mailbox SET kind = 'account', created_at = $1 - 60000",
    )
    .await;
    let stuck = hosting.stuck().await.expect("reads");

    assert_eq!((not_hosted, stuck), (0, 2));
    hosting.stop().await;
}

/// However many wait for a reason, one that waits for none is found.
#[tokio::test]
async fn a_stuck_message_is_found_behind_any_number_of_held_ones() {
    let (hosting, client, executor) = blind(10).await;
    forgotten(&hosting, &client).await;
    change(
        &hosting,
        "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, created_at)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
         SELECT shard, 'later', 'x', CAST(printf('%016d', i) AS BLOB), method, codec, args,
           context, $1
         FROM n, (SELECT * FROM mailbox WHERE entity = 'a')",
    )
    .await;
    let behind = "UPDATE mailbox SET seq = seq + 100000, created_at = $1 WHERE kind = 'account'";
    change(&hosting, behind).await;

    executor.advance_ms(31_000);
    let stuck = hosting.stuck().await.expect("reads");

    assert_eq!(stuck, 2);
    hosting.stop().await;
}
