//! What ends with the lease or the shard: work that did not begin goes elsewhere, work that did is
//! not answered as if nothing had happened.

use std::sync::Arc;

use actor_core::{CallError, Client, hosting::Hosting, store::TaskExecutor};
use actor_tests::hosting::{MEMORY, client, host_with};

use super::kinds::{Account, Counter, Gate, SOON};

async fn node(gate: &Gate) -> (Arc<Hosting>, Client) {
    let gate = gate.clone();
    let hosting = host_with::<(Account, Counter)>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(gate);
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client)
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
