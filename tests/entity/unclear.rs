//! Commits of which the store does not say how they ended.

use std::{sync::Arc, time::Duration};

use actor_core::{
    CallError, Entity, Invocation, Refusal, clock::Clock, codec::Codec, handlers, hosting::Hosting,
    shards::Shards,
};
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

/// Returns a node whose lease may end, as nodes of a cluster have it: former owners may have one,
/// too.
async fn leased(fault: &Arc<FaultExecutor>) -> Arc<Hosting> {
    let hosting = host_with::<Vault>(MEMORY, fault.clone(), |config| {
        let all = &config.shards;
        let leased = Shards::new(SHARDS, all.node().clone(), all.incarnation());
        leased.extend_lease(Clock.now() + 2 * SOON);
        for (shard, epoch) in all.owned() {
            leased.grant(shard, epoch);
        }
        config.shards = Arc::new(leased);
    });
    hosting.await
}

/// A call that nobody took was kept to be sent again. Once somebody did take it, it is not: without
/// a key nobody would know it again.
#[tokio::test]
async fn a_call_that_had_to_wait_is_not_sent_again_after_an_unclear_commit() {
    let fault = Arc::<FaultExecutor>::default();
    let unknown_owners = fault.hold("quiet shards");
    let hosting = leased(&fault).await;
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

/// The same by name, where the shard has to wait again by the time the outcome is unknown.
#[tokio::test]
async fn a_call_whose_shard_has_to_wait_again_is_not_sent_again_after_an_unclear_commit() {
    let fault = Arc::<FaultExecutor>::default();
    let hosting = leased(&fault).await;
    let client = client(&hosting);
    let vault = client.entity::<Vault>("a");
    assert_eq!(vault.add(1).timeout(SOON).await, Ok(1));
    let (shard, asked) = (hosting.shard_of("vault", "a"), fault.begun("quiet shards"));
    fault.lose_answer("commit");
    let raising = fault.hold("raise epochs");
    let args = Codec::Json.encode(&serde_json::json!({"amount": 1}));
    let add = Invocation::new("vault", "a", "add").args(Codec::Json, args.expect("encodes"));

    let (added, ()) = tokio::join!(client.invoke(add.timeout(SOON)), async {
        fault.reached("raise epochs", 1).await;
        let unknown_owners = fault.hold("quiet shards");
        let epoch = hosting.shards().epoch(shard).expect("it is owned");
        hosting.shards().revoke(shard);
        hosting.shards().grant(shard, epoch);
        hosting.shards().freeze(shard); // Tells of it.
        hosting.shards().grant(shard, epoch);
        fault.reached("quiet shards", asked + 1).await;
        drop(raising);
        drop(unknown_owners);
    });

    assert!(
        matches!(added, Err(Refusal::UnknownOutcome(_))),
        "{added:?}"
    );
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
