//! Several nodes on one database: one owner for each entity, whoever dies, hangs or leaves.

use std::{collections::BTreeSet, time::Duration};

use actor_cluster::sim::{self, Sim};

use crate::kinds::Counter;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn every_node_owns_its_share(sim: Sim) {
    sim.advance(5 * SECOND).await;

    let owners: BTreeSet<_> = (0..64).map(|id| sim.owner::<Counter>(id)).collect();

    assert_eq!(owners, BTreeSet::from([Some(0), Some(1), Some(2)]));
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_dead_nodes_entities_move_once_its_lease_is_over(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(2).await.expect("the owner answers");
    let first = sim.owner::<Counter>("a").expect("somebody owns it");

    sim.crash(first);
    sim.advance(13 * SECOND).await;

    assert_ne!(sim.owner::<Counter>("a"), Some(first));
    assert_eq!(counter.add(1).await, Ok(3));
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_node_that_comes_back_gets_its_share_back(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let before: Vec<_> = (0..64).map(|id| sim.owner::<Counter>(id)).collect();

    sim.crash(1);
    sim.advance(15 * SECOND).await;
    let without: Vec<_> = (0..64).map(|id| sim.owner::<Counter>(id)).collect();
    sim.restart(1).await;
    sim.advance(5 * SECOND).await;

    assert!(!without.contains(&Some(1)));
    let after: Vec<_> = (0..64).map(|id| sim.owner::<Counter>(id)).collect();
    assert_eq!(after, before);
}

/// A frozen node wakes up in the middle of its work, long after another one took over.
#[sim::test(nodes = 2, host(Counter), seeds = 24)]
async fn a_paused_node_cannot_write(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the owner answers");
    let first = sim.owner::<Counter>("a").expect("somebody owns it");
    let adding: Vec<_> = (0..8)
        .map(|number| {
            let counter = counter.clone();
            tokio::spawn(async move {
                counter
                    .add(1)
                    .key(format!("k{number}"))
                    .timeout(MINUTE)
                    .await
            })
        })
        .collect();

    sim.advance(Duration::from_millis(5 + sim.rng().below(30)))
        .await;
    sim.freeze(first);
    sim.advance(14 * SECOND).await;
    let second = sim.owner::<Counter>("a");
    let sum = counter.add(1).timeout(MINUTE).await;
    sim.thaw(first);
    for added in adding {
        added
            .await
            .expect("the task ends")
            .expect("it is acknowledged in the end");
    }
    sim.advance(5 * SECOND).await;

    assert_ne!(second, Some(first));
    assert!(sum.is_ok(), "{sum:?}");
    assert_eq!(counter.count().await, Ok(10));
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_rolling_restart_returns_no_error(sim: Sim) {
    let clients: Vec<_> = (0..6_u64)
        .map(|client| {
            let sim = sim.clone();
            tokio::spawn(async move {
                for _ in 0..60 {
                    let added = sim.entity::<Counter>(client).add(1).await;
                    added.expect("no caller sees the restart");
                    sim.advance(Duration::from_millis(300)).await;
                }
            })
        })
        .collect();

    for node in 0..3 {
        sim.advance(2 * SECOND).await;
        sim.shutdown(node).await.expect("it stops in order");
        sim.restart(node).await;
    }
    for client in clients {
        client.await.expect("every call was answered");
    }

    for client in 0..6_u64 {
        assert_eq!(sim.entity::<Counter>(client).count().await, Ok(60));
    }
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn an_entity_reaches_entities_of_other_nodes(sim: Sim) {
    for id in 0..8_u64 {
        let asked = sim
            .entity::<Counter>(id)
            .add_both(1, format!("other-{id}"))
            .await;
        assert_eq!(asked, Ok(1));
        let asked = sim.entity::<Counter>(id).ask(format!("other-{id}")).await;
        asked.expect("the other one answers");
    }
    sim.advance(15 * SECOND).await;

    for id in 0..8_u64 {
        assert_eq!(
            sim.entity::<Counter>(id).ask(format!("other-{id}")).await,
            Ok(1)
        );
    }
}
