//! The simulator itself, and the least a user expects.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};

use crate::kinds::Counter;

#[sim::test(host(Counter))]
async fn a_count_survives_a_crash(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    assert_eq!(counter.add(2).await, Ok(2));

    sim.crash(0);
    sim.restart(0).await;

    assert_eq!(counter.add(1).await, Ok(3));
}

#[sim::test(nodes = 3, host(Counter))]
async fn a_dead_nodes_entities_move_once_its_lease_is_over(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(2).await.expect("the owner answers");
    let first = sim.owner::<Counter>("a").expect("somebody owns it");

    sim.crash(first);
    sim.advance(Duration::from_secs(15)).await;

    assert_ne!(sim.owner::<Counter>("a"), Some(first));
    assert_eq!(counter.add(1).await, Ok(3));
}
