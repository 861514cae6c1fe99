//! Commits of which the store does not say how they ended.

use std::{sync::Arc, time::Duration};

use actor_core::{CallError, Entity, clock::Clock, handlers, shards::Shards};
use actor_tests::{
    fault::FaultExecutor,
    hosting::{MEMORY, SHARDS, client, host_with},
};
use serde::{Deserialize, Serialize};

use super::kinds::{Account, SOON};

/// Waits for the leases of former owners.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, takeover = "lease")]
struct Vault {
    sum: u64,
}

#[handlers]
impl Vault {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.sum += amount;
        self.sum
    }

    /// Returns the sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// A call that nobody took was kept to be sent again. Once somebody did take it, it is not: without
/// a key nobody would know it again.
#[tokio::test]
async fn a_call_that_had_to_wait_is_not_sent_again_after_an_unclear_commit() {
    let fault = Arc::<FaultExecutor>::default();
    let unknown_owners = fault.hold("quiet shards");
    let hosting = host_with::<Vault>(MEMORY, fault.clone(), |config| {
        // A lease that may end, as nodes of a cluster have it: former owners may have one, too.
        let all = &config.shards;
        let leased = Shards::new(SHARDS, all.node().clone(), all.incarnation());
        leased.extend_lease(Clock.now() + 2 * SOON);
        for (shard, epoch) in all.owned() {
            leased.grant(shard, epoch);
        }
        config.shards = Arc::new(leased);
    });
    let hosting = hosting.await;
    let vault = client(&hosting).entity::<Vault>("a");
    fault.reached("quiet shards", 1).await;

    let mut adding = Box::pin(vault.add(1).timeout(SOON).into_future());
    tokio::select! {
        biased;
        early = &mut adding => panic!("a former owner may still run it: {early:?}"),
        () = std::future::ready(()) => {}
    }
    fault.lose_answer("commit");
    drop(unknown_owners);
    let added = adding.await;

    assert!(
        matches!(added, Err(CallError::UnknownOutcome(_))),
        "{added:?}"
    );
    assert_eq!(vault.sum().timeout(SOON).await, Ok(1));
}

/// Whoever sends does not wait for ever for a store that says nothing.
#[tokio::test]
async fn a_cast_ends_with_its_time_also_while_the_store_is_silent() {
    let fault = Arc::<FaultExecutor>::default();
    let hosting = host_with::<Account>(MEMORY, fault.clone(), |_| {}).await;
    let account = client(&hosting).entity::<Account>("a");
    let silence = fault.hold("commit");

    let cast = account.deposit(1).timeout(Duration::from_millis(50)).cast();
    let cast = tokio::select! {
        biased;
        cast = cast => cast,
        () = hosting.clock().sleep(SOON) => panic!("it waits for ever"),
    };
    drop(silence);

    assert!(
        matches!(cast, Err(CallError::UnknownOutcome(_))),
        "{cast:?}"
    );
    // It was stored all the same, and is before whatever is sent after it.
    assert_eq!(account.deposit(1).timeout(SOON).await, Ok(2));
}
