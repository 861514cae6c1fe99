//! What was acknowledged counts once, wherever a node dies and whatever its store does.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{Ctx, Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::kinds::Counter;

const MINUTE: Duration = Duration::from_secs(60);

/// Adds one under a key until it is acknowledged, as a client would.
async fn add_surely(sim: &Sim, id: &str, key: &str) -> u64 {
    let counter = sim.entity::<Counter>(id);
    for _ in 0..100 {
        if let Ok(sum) = counter.add(1).key(key).await {
            return sum;
        }
    }
    panic!("{key} was not acknowledged in a hundred tries");
}

/// Ten keyed additions while one fault waits for its store call; returns the store calls made.
async fn ten_additions_with(sim: &Sim, fault: Option<Fault>) -> u64 {
    add_surely(sim, "a", "first").await;
    let before = sim.store_calls(0);
    if let Some(fault) = fault {
        sim.fault(0, fault);
    }
    for number in 0..10 {
        add_surely(sim, "a", &format!("k{number}")).await;
    }
    let calls = sim.store_calls(0) - before;
    sim.clear_faults(0);

    let count = sim.entity::<Counter>("a").count().timeout(MINUTE).await;
    assert_eq!(count, Ok(11));
    calls
}

/// Has one counter and another add, in turns.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Turns {
    taken: u32,
}

#[handlers]
impl Turns {
    /// Lets whoever's turn it is add one; returns how many turns were taken.
    pub async fn take(&mut self, ctx: &mut Ctx<Self>) -> u32 {
        let next = ["left", "right"][self.taken as usize % 2];
        let added = ctx.entity::<Counter>(next).add(1).await;
        added.expect("the counter answers");
        self.taken += 1;
        self.taken
    }
}

/// The owner dies after it stored the outcome and before it said so. Its client's repeat finds
/// another state, by which the handler would ask somebody else.
#[sim::test(nodes = 2, host(Turns, Counter), seeds = 8)]
async fn a_repeat_after_a_crash_asks_nobody_else(sim: Sim) {
    sim.advance(Duration::from_secs(5)).await;
    let owned = |id: &u64| sim.owner::<Turns>(id) == Some(0);
    let id = (0..64).find(owned).expect("node 0 owns one");
    let far = |of: &str| sim.owner::<Counter>(of) == Some(1);
    let crash = match far("left") {
        // The other node's commit is not this one's.
        true => Fault::crash_after().only("commit"),
        false => Fault::crash_after().only("commit").skip(1),
    };
    sim.fault(0, crash);

    let taken = sim.run_on(1, move |node| async move {
        let turns = node.client().entity::<Turns>(id);
        turns.take().timeout(MINUTE).await
    });

    assert_eq!(taken.await.expect("node 1 lives"), Ok(1));
    let sum = async |of: &str| sim.entity::<Counter>(of).count().timeout(MINUTE).await;
    assert_eq!((sum("left").await, sum("right").await), (Ok(1), Ok(0)));
    assert!(!sim.is_up(0), "it died");
}

// MSG-14 in our semantics: who is answered, is answered after the commit
/// Each seed puts the crash at another store call: before it and after it in turns.
#[sim::test(host(Counter), seeds = 48)]
async fn a_durable_count_survives_a_crash_at_every_store_call(sim: Sim) {
    let (call, after) = ((sim.seed() - 1) / 2, sim.seed().is_multiple_of(2));
    let crash = if after {
        Fault::crash_after()
    } else {
        Fault::crash_before()
    };

    let calls = ten_additions_with(&sim, Some(crash.skip(call))).await;

    // The seeds must reach beyond the last call that belongs to the additions.
    assert!(
        sim.seed() < 48 || calls <= call,
        "{calls} calls, {call} tried"
    );
}

#[sim::test(host(Counter), seeds = 32)]
async fn a_node_that_crashes_anywhere_in_its_start_starts_again(sim: Sim) {
    sim.fault(0, Fault::crash_after().skip(sim.seed() - 1));

    for number in 0..3 {
        add_surely(&sim, "a", &format!("k{number}")).await;
    }

    assert_eq!(
        sim.entity::<Counter>("a").count().timeout(MINUTE).await,
        Ok(3)
    );
}

#[sim::test(host(Counter), seeds = 32)]
async fn a_durable_count_survives_an_unclear_answer_to_every_store_call(sim: Sim) {
    ten_additions_with(&sim, Some(Fault::fail_after().skip(sim.seed() - 1))).await;
}

#[sim::test(host(Counter), seeds = 64)]
async fn keyed_additions_count_once_under_random_faults(sim: Sim) {
    for fault in [
        Fault::fail_before(),
        Fault::fail_after(),
        Fault::crash_before(),
    ] {
        sim.fault(0, fault.only("commit").chance(7).until_cleared());
    }
    sim.fault(0, Fault::crash_after().chance(3).until_cleared());
    let adding = (0..4).map(|client| {
        let sim = sim.clone();
        tokio::spawn(async move {
            for number in 0..8 {
                let id = if (client + number) % 2 == 0 {
                    "even"
                } else {
                    "odd"
                };
                add_surely(&sim, id, &format!("{client}-{number}")).await;
            }
        })
    });
    for client in adding.collect::<Vec<_>>() {
        client.await.expect("every addition is acknowledged");
    }
    sim.clear_faults(0);

    for id in ["even", "odd"] {
        let count = sim.entity::<Counter>(id).count().timeout(MINUTE).await;
        assert_eq!(count, Ok(16), "{id}");
    }
}

#[sim::test(host(Counter), seeds = 16)]
async fn a_stored_cast_is_done_once_even_if_its_node_dies_on_the_way(sim: Sim) {
    let from = sim.entity::<Counter>("from");
    sim.fault(0, Fault::crash_after().skip(sim.seed()));
    for number in 0..4 {
        while from
            .add_both(1, "to".into())
            .key(format!("k{number}"))
            .await
            .is_err()
        {}
    }
    sim.clear_faults(0);
    sim.advance(Duration::from_secs(10)).await;

    assert_eq!(from.count().await, Ok(4));
    assert_eq!(sim.entity::<Counter>("to").count().await, Ok(4));
}
