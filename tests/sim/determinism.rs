//! The same seed gives the same run, to the last line of its trace.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, __private::Component, Fault, Options, Sim};

use actor_core::Failure;

use crate::{
    chaos,
    kinds::{Alarm, Counter, Tally},
};

/// A bit of everything: calls, casts, timers, faults, crashes, freezes.
async fn a_bad_day(sim: &Sim) {
    let rng = sim.rng().clone();
    for node in 0..sim.nodes() {
        sim.fault(node, Fault::fail_after().chance(2).until_cleared());
        sim.fault(
            node,
            Fault::slow(Duration::from_millis(40))
                .chance(5)
                .until_cleared(),
        );
        sim.fault(node, Fault::crash_after().chance(1).until_cleared());
    }
    for round in 0..40_u64 {
        let id = rng.below(6);
        let outcome = match rng.below(5) {
            0 => sim
                .entity::<Tally>(id)
                .add(1)
                .await
                .map_err(|error| error.to_string()),
            1 => {
                let set = sim.entity::<Alarm>(id).set(rng.below(4000)).await;
                set.map(|()| 0).map_err(|error| error.to_string())
            }
            2 => {
                let both = sim
                    .entity::<Counter>(id)
                    .add_both(1, (id + 1).to_string())
                    .await;
                both.map_err(|error| error.to_string())
            }
            3 => {
                let cast = sim.entity::<Counter>(id).add(1).cast().await;
                cast.map(|()| 0).map_err(|error| error.to_string())
            }
            _ => {
                let call = sim
                    .entity::<Counter>(id)
                    .add(1)
                    .key(format!("k{round}"))
                    .await;
                call.map_err(|error| error.to_string())
            }
        };
        sim.note(format_args!("round {round}: {outcome:?}"));
        let node = rng.below(sim.nodes() as u64) as usize;
        match rng.below(12) {
            0 => sim.crash(node),
            1 => sim.freeze(node),
            2 => sim.thaw(node),
            _ => {}
        }
        if rng.below(3) == 0 && !sim.is_up(node) {
            sim.thaw(node);
            sim.restart(node).await;
        }
        sim.advance(Duration::from_millis(rng.below(1500))).await;
    }
}

/// Runs a day with some seeds; returns the hash of each one's trace.
fn hashes_of(options: Options, day: impl AsyncFn(&Sim) + Copy + 'static) -> BTreeMap<u64, u64> {
    let hashes = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = hashes.clone();
    sim::__private::run(options, move |sim| {
        let seen = seen.clone();
        Box::pin(async move {
            day(&sim).await;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(sim.seed(), sim.trace_hash());
            Ok(())
        })
    });

    hashes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

fn is_repeatable(options: Options, day: impl AsyncFn(&Sim) + Copy + 'static) {
    let first = hashes_of(options, day);
    let second = hashes_of(options, day);

    assert_eq!(first, second, "{options:?}");
    let mut different: Vec<_> = first.values().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), first.len());
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another_one() {
    for nodes in [1, 3] {
        let options = Options {
            name: "sim::determinism",
            nodes,
            seeds: 6,
            host: <(Counter, Alarm, Tally) as Component>::install,
        };
        is_repeatable(options, a_bad_day);
    }
}

#[test]
fn the_worst_day_is_repeatable_too() {
    let options = Options {
        name: "sim::determinism",
        nodes: 5,
        seeds: 3,
        host: <chaos::Hosted as Component>::install,
    };
    is_repeatable(options, chaos::an_honest_day);
}

/// Many that wait for the same news: who wakes first must be the seed's choice.
async fn a_day_with_singletons(sim: &Sim) {
    for number in 0..12_u64 {
        sim.singleton(&format!("s{number}"), move |singleton| async move {
            while singleton.pause(Duration::from_millis(700)).await {
                let counter = singleton.entity::<Counter>(number);
                counter
                    .add(1)
                    .await
                    .map_err(|error| Failure::new("call", error))?;
            }
            Ok(())
        });
    }
    sim.advance(Duration::from_secs(5)).await;
    sim.crash(0);
    sim.advance(Duration::from_secs(15)).await;
    sim.restart(0).await;
    sim.advance(Duration::from_secs(5)).await;
}

#[test]
fn a_day_with_singletons_is_repeatable() {
    let options = Options {
        name: "sim::determinism",
        nodes: 3,
        seeds: 4,
        host: <(Counter,) as Component>::install,
    };
    is_repeatable(options, a_day_with_singletons);
}
