//! Nodes that drain while their store fails or is slow: nobody who calls sees it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{Entity, handlers};
use tokio::task::JoinHandle;

use crate::{kinds::Counter, rows::number};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Entities that are called during a drain.
const CALLED: std::ops::Range<u64> = 100..124;

/// Calls these entities again and again, with the time-out that calls have, until it is told to
/// stop; each then tells how often it was.
fn callers(sim: &Sim, ids: Vec<u64>, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    let call = |id| {
        let (counter, stop, sim) = (sim.entity::<Counter>(id), stop.clone(), sim.clone());
        tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                calls += 1;
                assert_eq!(counter.add(1).await, Ok(calls), "entity {id}");
                sim.advance(SECOND / 5).await;
            }
            calls
        })
    };
    ids.into_iter().map(call).collect()
}

/// Returns the entities to call whose shards are others than that of `id`.
async fn in_other_shards(sim: &Sim, id: u64) -> Vec<u64> {
    let found = sim.run_on(0, move |node| async move {
        let shard_of = |id: u64| node.hosting().shard_of("counter", &id.to_string());
        let others = CALLED.filter(|other| shard_of(*other) != shard_of(id));
        others.collect()
    });
    found.await.expect("it lives")
}

/// Drains node 0 while one of its handlers goes on for 20 s and calls of this name fail three
/// times; all others go on being called.
async fn drains_in_spite_of(sim: Sim, label: &'static str) {
    sim.advance(5 * SECOND).await;
    let id = (0..100).find(|id| sim.owner::<Counter>(id) == Some(0));
    let id = id.expect("it owns some");
    let slow = sim.entity::<Counter>(id);
    let slow = tokio::spawn(async move { slow.add_slowly(1, 20_000).timeout(MINUTE).await });
    let stop = Arc::new(AtomicBool::new(false));
    let callers = callers(&sim, in_other_shards(&sim, id).await, &stop);
    sim.advance(SECOND).await;

    sim.fault(0, Fault::fail_before().only(label).times(3));
    let stopped = sim.shutdown(0).await.expect("it stops in order");
    stop.store(true, Ordering::Relaxed);

    assert_eq!(stopped.unfinished, 0);
    assert_eq!(slow.await.expect("it ends"), Ok(1));
    for caller in callers {
        assert!(caller.await.expect("nobody sees it") > 50);
    }
}

/// Peers that think it stays would leave to it what it releases.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_drain_is_announced_also_if_the_store_fails_at_first(sim: Sim) {
    drains_in_spite_of(sim, "say draining").await;
}

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_drain_gives_all_away_also_if_a_release_fails(sim: Sim) {
    drains_in_spite_of(sim, "release shards").await;
}

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_drain_gives_all_away_also_if_the_map_cannot_be_read_at_first(sim: Sim) {
    drains_in_spite_of(sim, "shard map").await;
}

/// Makes kinds in groups of their own, so that a node has many shards.
macro_rules! grouped {
    ($($kind:ident in $group:literal),*) => {$(
        #[derive(Debug, Default, Entity)]
        #[entity(group = $group)]
        struct $kind;

        #[handlers]
        impl $kind {
            /// Does nothing.
            pub fn look(&self) {}
        }
    )*};
}

grouped!(First in "first", Second in "second", Third in "third", Fourth in "fourth");

/// A slow disk holds up each commit, and so the wait until all of a shard is stored; that must not
/// keep what is stored from leaving.
#[sim::test(nodes = 2, host(Counter, First, Second, Third, Fourth), seeds = 4)]
async fn slow_commits_do_not_keep_shards_from_leaving(sim: Sim) {
    sim.advance(5 * SECOND).await;
    sim.weigh(0, 100);
    sim.shutdown(0).await.expect("it stops in order");
    sim.restart(0).await;
    sim.advance(30 * SECOND).await;
    let owned = async || number(&sim, "SELECT COUNT(*) FROM shards WHERE owner = 'n0'").await;
    let before = owned().await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = callers(&sim, CALLED.collect(), &stop);
    let slow = Fault::slow_answer(SECOND * 2 / 5).only("commit");
    sim.fault(0, slow.until_cleared());
    sim.advance(SECOND).await;

    let began = sim.now();
    let leaving = sim.clone();
    let stopped = tokio::spawn(async move { leaving.shutdown(0).await });
    while owned().await == before {
        sim.advance(SECOND / 20).await;
    }
    let first = sim.now() - began;
    let stopped = stopped.await.expect("it ends").expect("it stops in order");
    let all = sim.now() - began;
    stop.store(true, Ordering::Relaxed);

    assert!(before > 70, "{before} shards");
    assert!(first < SECOND * 6 / 5, "the first one left after {first:?}");
    // A wave every quarter of a second, and the last one's commits.
    assert!(all < 5 * SECOND, "all have left after {all:?}");
    assert_eq!(stopped.unfinished, 0);
    for caller in callers {
        assert!(caller.await.expect("nobody sees it") > 5);
    }
}
