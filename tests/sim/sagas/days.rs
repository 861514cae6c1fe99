//! Bad days: many runs among crashes, freezes and a bad store, on seeds that repeat them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Options, Sim};
use actor_workflow::SagaError;

use super::{Buy, Provider, Stock, end, start, taken};

/// Many purchases among crashes, freezes and a bad store.
async fn a_bad_day(sim: &Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let rng = sim.rng().clone();
    for node in 0..sim.nodes() {
        sim.fault(node, Fault::fail_after().chance(2).until_cleared());
        sim.fault(node, Fault::fail_before().chance(2).until_cleared());
        sim.fault(node, Fault::crash_after().chance(1).until_cleared());
    }
    let mut runs = Vec::new();
    for round in 0..15 {
        let input = Buy {
            wait_ms: rng.below(4_000),
            slow_ms: rng.below(800),
            fails: rng.below(2) == 0,
            stalls: false,
        };
        runs.push((input.fails, start(sim, round, &input).await));
        if rng.below(4) == 0 {
            let cancelled = runs[rng.below(runs.len() as u64) as usize].1.cancel().await;
            sim.note(format_args!("cancel: {cancelled:?}"));
        }
        let node = rng.below(sim.nodes() as u64) as usize;
        match rng.below(6) {
            0 => sim.crash(node),
            1 => sim.freeze(node),
            _ => {}
        }
        sim.advance(Duration::from_millis(rng.below(1_500))).await;
        sim.thaw(node);
        if !sim.is_up(node) {
            sim.restart(node).await;
        }
    }
    for node in 0..sim.nodes() {
        sim.clear_faults(node);
    }
    let mut shipped = 0;
    for (fails, run) in &runs {
        match end(run).await {
            Ok(_) if !fails => shipped += 1,
            Err(SagaError::Cancelled) => {}
            Err(SagaError::Failed(failure)) if *fails && failure.kind == "no_van" => {}
            other => panic!("{:?} came to {other:?}", run.id()),
        }
    }
    assert_eq!(taken(sim).await, shipped);
    let log = provider.log();
    let refunds = log.iter().filter(|line| line.starts_with("refund")).count();
    assert_eq!(
        (log.len() - refunds) as i64 - refunds as i64,
        shipped,
        "{log:?}"
    );
}

#[sim::test(host(Buy, Stock), seeds = 12)]
async fn whatever_happens_to_one_node_every_run_ships_or_leaves_no_trace(sim: Sim) {
    a_bad_day(&sim).await;
}

#[sim::test(nodes = 3, host(Buy, Stock), seeds = 12)]
async fn whatever_happens_to_three_nodes_every_run_ships_or_leaves_no_trace(sim: Sim) {
    a_bad_day(&sim).await;
}

#[test]
fn the_same_seed_gives_the_same_trace_with_sagas_too() {
    let hashes = |_| {
        let hashes = Arc::new(Mutex::new(Vec::new()));
        let options = Options {
            name: "sim::sagas",
            nodes: 2,
            seeds: 3,
            host: <(Buy, Stock) as sim::__private::Component>::install,
        };
        let seen = hashes.clone();
        sim::__private::run(options, move |sim| {
            let seen = seen.clone();
            Box::pin(async move {
                a_bad_day(&sim).await;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(sim.trace_hash());
                Ok(())
            })
        });

        hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    let [first, second] = [1, 2].map(hashes);

    assert_eq!(first, second);
    assert_eq!(first.len(), 3);
}
