//! What was acknowledged counts once, wherever a node dies and whatever its store does.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};

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
