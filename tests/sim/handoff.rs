//! Shards that move while they are used: what runs goes on to its end, who calls waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_cluster::sim::{self, Sim};
use actor_core::{Ctx, Entity, handlers, store::ownership};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// How often handlers began.
#[derive(Clone, Debug, Default)]
struct Begun(Arc<AtomicU64>);

/// The entities whose handlers were dropped before their end.
#[derive(Clone, Debug, Default)]
struct CutOff(Arc<Mutex<BTreeSet<u64>>>);

impl CutOff {
    fn ids(&self) -> BTreeSet<u64> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.clone()
    }
}

/// Held by a handler while it runs.
struct Running {
    id: u64,
    cut_off: Option<CutOff>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(cut_off) = &self.cut_off {
            let mut ids = cut_off.0.lock().unwrap_or_else(PoisonError::into_inner);
            ids.insert(self.id);
        }
    }
}

/// Adds after a while, and is stored.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Till {
    sum: u64,
}

#[handlers]
impl Till {
    pub async fn add(&mut self, ms: u64, ctx: &mut Ctx<Self>) -> u64 {
        ctx.resource::<Begun>().0.fetch_add(1, Ordering::SeqCst);
        let mut running = Running {
            id: ctx.id().as_str().parse().expect("ids are numbers"),
            cut_off: ctx.hosting().resource::<CutOff>().cloned(),
        };
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
        running.cut_off = None;
        self.sum += 1;
        self.sum
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// Calls every entity again and again; returns how many calls there were.
fn callers(sim: &Sim, entities: u64, rounds: u64, ms: u64) -> Vec<tokio::task::JoinHandle<u64>> {
    (0..entities)
        .map(|id| {
            let till = sim.entity::<Till>(id);
            tokio::spawn(async move {
                for round in 1..=rounds {
                    let sum = till.add(ms).timeout(60 * SECOND).await;
                    assert_eq!(sum, Ok(round), "entity {id}");
                }
                rounds
            })
        })
        .collect()
}

#[sim::test(nodes = 3, host(Till), seeds = 6)]
async fn handlers_end_where_they_began_when_their_shard_moves(sim: Sim) {
    let begun = Begun::default();
    sim.provide(begun.clone());
    sim.advance(5 * SECOND).await;
    sim.crash(2);
    sim.advance(15 * SECOND).await;

    let callers = callers(&sim, 24, 6, 700);
    sim.restart(2).await;
    let before: Vec<_> = (0..24).map(|id| sim.owner::<Till>(id)).collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("nobody sees the move");
    }
    sim.advance(5 * SECOND).await;

    let after: Vec<_> = (0..24).map(|id| sim.owner::<Till>(id)).collect();
    assert_ne!(before, after, "nothing moved: the test showed nothing");
    assert_eq!(
        begun.0.load(Ordering::SeqCst),
        calls,
        "no handler began twice"
    );
}

#[sim::test(nodes = 3, host(Till), seeds = 6)]
async fn a_node_that_leaves_lets_its_handlers_end_and_hands_everything_over(sim: Sim) {
    let begun = Begun::default();
    sim.provide(begun.clone());
    sim.advance(5 * SECOND).await;

    let callers = callers(&sim, 24, 4, 1500);
    sim.advance(2 * SECOND).await;
    let stopped = sim.shutdown(0).await.expect("it stops in order");
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("nobody sees that it left");
    }

    assert_eq!(stopped.unfinished, 0);
    assert_eq!(
        begun.0.load(Ordering::SeqCst),
        calls,
        "no handler began twice"
    );
}

/// Returns the epochs of the shards of all entities, as the database has them, and whether node 0
/// serves them.
async fn shards(sim: &Sim, entities: u64) -> Vec<(i64, bool)> {
    let served = sim.run_on(0, move |node| async move {
        let hosting = node.hosting();
        let served = |id: u64| {
            let shard = hosting.shard_of("till", &id.to_string());
            (shard, hosting.shards().serves(shard))
        };
        (0..entities).map(served).collect::<Vec<_>>()
    });
    let served = served.await.expect("node 0 is up");
    let epochs = sim.store().read("epochs", |connection| {
        Box::pin(async move { ownership::list(connection).await })
    });
    let epochs = epochs.await.expect("the store answers");
    let mut shards = Vec::new();
    for (shard, serves) in served {
        let row = epochs.iter().find(|row| row.shard == shard);
        let epoch = row.expect("every shard has a row").epoch;
        shards.push((epoch.0.cast_signed(), serves));
    }
    shards
}

/// Whoever gives away is told again and again to look; its pace is its own.
#[sim::test(nodes = 2, host(Till), seeds = 4)]
async fn shards_are_given_away_at_a_steady_pace_however_often_a_node_looks(sim: Sim) {
    // A look every tenth of a second, one shard and a half in each.
    sim.lease_ttl(SECOND);
    sim.advance(5 * SECOND).await;
    sim.crash(1);
    sim.advance(5 * SECOND).await;
    let owned = async || {
        let owned = sim.run_on(0, |node| async move {
            node.rebalance();
            node.hosting().shards().owned().len()
        });
        owned.await.expect("it lives")
    };
    let all = owned().await;

    sim.restart(1).await;
    let (mut began, mut ended, mut last) = (None, sim.now(), all);
    let give_up = sim.now() + 5 * SECOND;
    while sim.now() < give_up {
        let left = owned().await;
        if left < last {
            began.get_or_insert(sim.now());
            (ended, last) = (sim.now(), left);
        }
        sim.advance(SECOND / 50).await;
    }

    let (moved, began) = (all - last, began.expect("nothing moved"));
    assert!(moved >= 6, "{moved}");
    // The first ones go at once; each of the others takes its sixteenth of a second.
    let pace = SECOND / 16 * u32::try_from(moved - 2).expect("few");
    let took = ended - began;
    assert!(took >= pace, "{moved} shards moved within {took:?}");
}

// SHD-2
/// A handler that does not end must not hold its shard for ever, and has the time of a call.
#[sim::test(nodes = 2, host(Till), seeds = 4)]
async fn a_handler_that_does_not_end_is_cut_off_and_its_call_goes_on_elsewhere(sim: Sim) {
    let (begun, cut_off) = (Begun::default(), CutOff::default());
    sim.provide(begun.clone());
    sim.provide(cut_off.clone());
    sim.advance(5 * SECOND).await;
    sim.crash(1);
    sim.advance(15 * SECOND).await;
    let before = shards(&sim, 16).await;
    let callers = callers(&sim, 16, 1, 20_000);
    sim.advance(SECOND).await;

    sim.start_node(1);
    let (mut left, mut cut) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..150 {
        sim.advance(SECOND / 10).await;
        let now = sim.now();
        for (id, (_, serves)) in (0..).zip(shards(&sim, 16).await) {
            if !serves {
                left.entry(id).or_insert(now);
            }
        }
        for id in cut_off.ids() {
            cut.entry(id).or_insert(now);
        }
    }
    for caller in callers {
        caller.await.expect("it is answered in the end");
    }
    let after = shards(&sim, 16).await;

    let begun = begun.0.load(Ordering::SeqCst);
    assert!(begun > 16, "{begun}: nothing was cut off");
    assert_eq!(begun, 16 + cut.len() as u64, "each ran once more");
    for (id, cut) in cut {
        let had = cut - left[&id];
        assert!(
            (4_900..6_000).contains(&had.as_millis()),
            "{id} had {had:?}"
        );
        let at = usize::try_from(id).expect("a small number");
        assert_eq!(after[at].0, before[at].0 + 1, "shard of {id} moved once");
    }
    for id in 0..16 {
        let sum = sim.entity::<Till>(id).sum().await;
        assert_eq!(sum, Ok(1), "what was cut off left no trace");
    }
}
