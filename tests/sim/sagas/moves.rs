//! Runs whose nodes die, drain or lose what they call.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};
use actor_workflow::SagaError;

use super::{Buy, Provider, Stock, end, start, taken};

/// Returns the node that owns a run.
async fn owner(sim: &Sim, id: &'static str) -> usize {
    for node in 0..sim.nodes() {
        let owns = sim.run_on(node, move |node| async move {
            let hosting = node.client().hosting().clone();
            hosting.epoch(hosting.shard_of("buy", id)).is_ok()
        });
        if owns.await.unwrap_or(false) {
            return node;
        }
    }
    panic!("nobody owns it");
}

// WF-11, WF-13
#[sim::test(nodes = 3, host(Buy, Stock), seeds = 4)]
async fn a_run_moves_to_another_node_when_its_own_dies(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let input = Buy {
        wait_ms: 5_000,
        fails: true,
        ..Buy::default()
    };
    let run = start(&sim, "a", &input).await;
    sim.advance(Duration::from_secs(2)).await;

    sim.crash(owner(&sim, "a").await);

    let Err(SagaError::Failed(failure)) = end(&run).await else {
        panic!("it fails");
    };
    assert_eq!(failure.kind, "no_van");
    assert_eq!(taken(&sim).await, 0);
    assert_eq!(provider.log().len(), 2, "one charge, one refund");
}

#[sim::test(nodes = 2, host(Buy, Stock), seeds = 4)]
async fn a_step_waits_for_an_entity_whose_node_died_instead_of_failing(sim: Sim) {
    sim.provide(Provider::default());
    taken(&sim).await;
    let stock = sim.owner::<Stock>("tea").expect("somebody owns it");
    let mut id = None;
    for candidate in ["a", "b", "c", "d", "e", "f"] {
        if owner(&sim, candidate).await != stock {
            id = Some(candidate);
            break;
        }
    }

    sim.crash(stock);
    let run = start(&sim, id.expect("one is on the other node"), &Buy::default()).await;
    let result = end(&run).await;

    assert_eq!(result, Ok("shipped".to_owned()), "the step had one attempt");
    assert_eq!(taken(&sim).await, 1);
}

#[sim::test(host(Buy, Stock), seeds = 4)]
async fn a_draining_node_lets_the_running_step_end_and_the_next_life_goes_on(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let run = start(
        &sim,
        "a",
        &Buy {
            slow_ms: 3_000,
            ..Buy::default()
        },
    )
    .await;
    sim.advance(Duration::from_secs(1)).await;

    sim.shutdown(0).await.expect("it stops in order");
    let charges = provider.log().len();
    sim.restart(0).await;

    assert_eq!(charges, 1, "the step ended before the node did");
    let before = sim.now();
    assert_eq!(end(&run).await, Ok("shipped".to_owned()));
    assert!(
        sim.now() - before < Duration::from_secs(3),
        "the step did not run again"
    );
}
