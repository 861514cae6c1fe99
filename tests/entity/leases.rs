//! What ends with the lease or the shard: work that did not begin goes elsewhere, work that did is
//! not answered as if nothing had happened.

use std::{future::IntoFuture, sync::Arc};

use actor_core::{
    CallError, Client,
    hosting::Hosting,
    store::{Executor, Sql, TaskExecutor},
};
use actor_tests::{
    fault::FaultExecutor,
    hosting::{MEMORY, client, host_with},
};
use futures_util::FutureExt;

use super::kinds::{Account, Counter, Gate, SOON};

async fn node(gate: &Gate) -> (Arc<Hosting>, Client) {
    node_on(Arc::new(TaskExecutor), gate).await
}

async fn node_on(executor: Arc<dyn Executor>, gate: &Gate) -> (Arc<Hosting>, Client) {
    let gate = gate.clone();
    let hosting = host_with::<(Account, Counter)>(MEMORY, executor, |config| {
        config.resources.insert(gate);
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client)
}

/// Makes somebody else the owner of everything, by the rows and by what the node knows.
async fn depose(hosting: &Hosting) {
    hosting.shards().revoke_all();
    let raised = hosting.store().write("another owner", |c| {
        let raise = Sql::same("UPDATE shards SET epoch = epoch + 1");
        Box::pin(async move { c.execute(&raise, vec![]).await })
    });
    raised.await.expect("the store answers");
}

#[tokio::test]
async fn a_call_whose_shard_goes_before_its_entity_is_read_did_not_begin() {
    let (hosting, client) = node(&Gate::default()).await;
    let account = client.entity::<Account>("a");
    let shard = hosting.shard_of("account", "a");

    let calling = account.deposit(1).timeout(SOON).into_future();
    let (answer, ()) = tokio::join!(calling, async { hosting.shards().revoke(shard) });

    assert!(
        matches!(answer, Err(CallError::Unavailable(_))),
        "{answer:?}"
    );
}

// A reply leaves only while the lease holds
#[tokio::test]
async fn a_volatile_entity_answers_only_while_its_node_has_its_lease() {
    let gate = Gate::default();
    let (hosting, client) = node(&gate).await;
    let counter = client.entity::<Counter>("a");
    let waiting = counter.wait().timeout(SOON).into_future();

    let ended = async {
        gate.entered().await;
        hosting.shards().revoke_all();
        gate.open(1);
    };
    let (waited, ()) = tokio::join!(waiting, ended);
    let added = counter.add(1).timeout(SOON).await;

    assert!(
        matches!(waited, Err(CallError::UnknownOutcome(_))),
        "{waited:?}"
    );
    assert!(matches!(added, Err(CallError::Unavailable(_))), "{added:?}");
}

// Memory is bounded: what a lane remembers of a failed commit goes with whom it is about.
#[tokio::test]
async fn a_deposed_node_remembers_no_failed_commits_of_entities_that_ended() {
    let gate = Gate::default();
    let (hosting, client) = node(&gate).await;
    let accounts: Vec<_> = (0..20).map(|id| client.entity::<Account>(id)).collect();
    let mut calls: Vec<_> = accounts
        .iter()
        .map(|account| account.wait().timeout(SOON).into_future())
        .collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
        gate.entered().await;
    }

    hosting.shards().revoke_all();
    gate.open(20);
    for call in calls {
        assert!(call.await.is_err(), "another node has it");
    }

    assert_eq!(hosting.lanes().failed(), 0);
}

#[tokio::test]
async fn a_commit_that_fails_after_its_entity_ended_is_not_remembered() {
    let executor = Arc::new(FaultExecutor::default());
    let (hosting, client) = node_on(executor.clone(), &Gate::default()).await;
    let account = client.entity::<Account>("a");
    account.deposit(1).await.expect("it is owned");
    let begun = executor.begun("commit");
    let held = executor.hold("commit");
    let mut first = account.deposit(1).timeout(SOON).into_future();
    assert!((&mut first).now_or_never().is_none());
    executor.reached("commit", begun + 1).await;

    depose(&hosting).await;
    let next = account.deposit(1).await;
    drop(held);
    let first = first.await;

    assert!(matches!(next, Err(CallError::Unavailable(_))), "{next:?}");
    assert!(matches!(first, Err(CallError::Unavailable(_))), "{first:?}");
    assert_eq!(hosting.lanes().failed(), 0);
}

#[tokio::test]
async fn a_message_whose_sender_went_away_before_it_was_refused_is_not_remembered() {
    let executor = Arc::new(FaultExecutor::default());
    let (hosting, client) = node_on(executor.clone(), &Gate::default()).await;
    let account = client.entity::<Account>("a");
    let held = executor.hold("commit");

    let mut sending = Box::pin(account.deposit(1).cast());
    assert!((&mut sending).now_or_never().is_none());
    drop(sending);
    executor.reached("commit", 1).await;
    depose(&hosting).await;
    drop(held);
    hosting.lanes().stop().await;

    assert_eq!(hosting.lanes().failed(), 0);
}
