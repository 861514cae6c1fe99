//! Nodes of two releases beside each other, of which the newer one changed the shape of a state.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::rows::number;

/// Entities: some of each node.
const LEDGERS: usize = 24;

/// How long callers wait at most: a lease, and some.
const PATIENCE: Duration = Duration::from_secs(40);

/// The first release.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, kind = "ledger")]
struct Ledger {
    sum: u64,
}

#[handlers]
impl Ledger {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.sum += amount;
        self.sum
    }
}

/// The second release: it writes amounts down instead of their sum, and reads both.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, kind = "ledger", version = 2)]
struct NewLedger {
    #[serde(default, skip_serializing)]
    sum: u64,
    #[serde(default)]
    amounts: Vec<u64>,
}

#[handlers]
impl NewLedger {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        let before = std::mem::take(&mut self.sum);
        self.amounts
            .extend([before, amount].iter().filter(|amount| **amount > 0));
        self.amounts.iter().sum()
    }
}

/// Adds one to every ledger and checks the sums.
async fn add_to_all(sim: &Sim, wanted: u64) {
    for id in 0..LEDGERS {
        let ledger = sim.entity::<Ledger>(id);
        let sum = ledger.add(1).timeout(PATIENCE).await;
        assert_eq!(sum, Ok(wanted), "ledger {id}");
    }
}

/// Replaces a node by one of the second release.
async fn replace(sim: &Sim, node: usize) {
    sim.shutdown(node).await.expect("it stops in order");
    sim.restart(node).await;
    sim.advance(Duration::from_secs(20)).await;
}

/// Architecture D12: when the nodes of the second release die or leave, their states come to one of
/// the first. It never touches them: it hands their shards to whoever can read them.
#[sim::test(nodes = 3, host(Ledger), seeds = 8)]
async fn a_state_of_a_newer_release_is_handed_to_a_node_that_knows_it(sim: Sim) {
    add_to_all(&sim, 1).await;
    sim.release::<(NewLedger,)>();
    replace(&sim, 1).await;
    replace(&sim, 2).await;
    add_to_all(&sim, 2).await;
    let newer = number(&sim, "SELECT COUNT(*) FROM entities WHERE shape = 2").await;

    sim.crash(2);
    add_to_all(&sim, 3).await;
    let waiting = sim.entity::<Ledger>(0);
    for id in 0..LEDGERS {
        let stored = sim.entity::<Ledger>(id).add(1).cast().await;
        assert_eq!(stored, Ok(()));
    }
    sim.advance(Duration::from_secs(30)).await;

    let kept = number(&sim, "SELECT COUNT(*) FROM entities WHERE shape = 2").await;
    let declined = number(&sim, "SELECT COUNT(*) FROM declined WHERE node <> ''").await;
    let dead = number(&sim, "SELECT COUNT(*) FROM dead_letters").await;
    assert!(
        newer > 0 && kept >= newer,
        "{newer} states changed, {kept} left"
    );
    assert!(
        declined > 0,
        "nothing of the second release came to the first"
    );
    assert_eq!(dead, 0, "messages given up");
    assert_eq!(waiting.add(1).timeout(PATIENCE).await, Ok(5));
}

/// What a node cannot serve is told until it is stored.
#[sim::test(nodes = 2, host(Ledger), seeds = 4)]
async fn a_shard_that_is_too_new_is_declined_even_if_the_store_failed_at_first(sim: Sim) {
    add_to_all(&sim, 1).await;
    sim.release::<(NewLedger,)>();
    replace(&sim, 1).await;
    add_to_all(&sim, 2).await;
    let newer = (0..LEDGERS).find(|id| sim.owner::<Ledger>(id) == Some(1));
    let ledger = sim.entity::<Ledger>(newer.expect("it owns some"));
    sim.shutdown(1).await.expect("it stops in order");

    sim.fault(0, Fault::fail_before().only("decline shards").times(3));
    // Nobody can answer it now.
    drop(ledger.add(1).timeout(Duration::from_secs(1)).await);
    sim.advance(Duration::from_secs(20)).await;

    let declined = number(&sim, "SELECT COUNT(*) FROM declined").await;
    assert_eq!(declined, 1, "nobody else would ever serve it");
}

/// With nobody left who can read it, a state and its messages wait; nothing else suffers.
#[sim::test(nodes = 2, host(Ledger), seeds = 4)]
async fn a_state_nobody_knows_yet_waits_with_its_messages(sim: Sim) {
    sim.advance(Duration::from_secs(20)).await;
    sim.release::<(NewLedger,)>();
    replace(&sim, 1).await;
    add_to_all(&sim, 1).await;
    let newer = number(&sim, "SELECT COUNT(*) FROM entities WHERE shape = 2").await;
    sim.shutdown(1).await.expect("it stops in order");
    let mut waiting = 0;
    for id in 0..LEDGERS {
        let stored = sim.entity::<Ledger>(id).add(1).cast().await;
        assert_eq!(stored, Ok(()), "it waits in the store");
        waiting += 1;
    }
    sim.advance(Duration::from_secs(120)).await;
    let left = number(&sim, "SELECT COUNT(*) FROM mailbox").await;

    sim.restart(1).await;
    sim.advance(Duration::from_secs(60)).await;

    assert!(
        newer > 0 && left == newer,
        "{left} of {waiting} wait for {newer} states"
    );
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 0);
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM dead_letters").await, 0);
    add_to_all(&sim, 3).await;
}
