//! What operators do: drain a node from another one, call it back, look at what moves.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};
use actor_core::{Ctx, Entity, handlers, id::NodeId};
use serde::{Deserialize, Serialize};

use crate::kinds::Counter;

const SECOND: Duration = Duration::from_secs(1);

/// Takes its time.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Slow {
    sum: u64,
}

#[handlers]
impl Slow {
    pub async fn add(&mut self, ms: u64, ctx: &mut Ctx<Self>) -> u64 {
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
        self.sum += 1;
        self.sum
    }
}

async fn name(sim: &Sim, node: usize) -> NodeId {
    let name = sim.run_on(node, |node| async move { node.name().clone() });
    name.await.expect("it is up")
}

/// Asks `at` to drain `node`, or to call it back; returns whether there is such a node.
async fn ask(sim: &Sim, at: usize, node: NodeId, rests: bool) -> bool {
    let asked = sim.run_on(at, move |at| async move {
        let asked = match rests {
            true => at.send_to_rest(&node).await,
            false => at.call_back(&node).await,
        };
        asked.map(|life| life.is_some()).map_err(drop)
    });
    asked.await.expect("it is up").expect("the store answers")
}

async fn is_ready(sim: &Sim, node: usize) -> bool {
    let ready = sim.run_on(node, |node| async move { node.is_ready() });
    ready.await.expect("it is up")
}

fn owners(sim: &Sim) -> Vec<Option<usize>> {
    (0..64).map(|id| sim.owner::<Counter>(id)).collect()
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_node_drained_from_afar_is_empty_and_a_way_to_the_others_until_it_is_called_back(
    sim: Sim,
) {
    sim.advance(10 * SECOND).await;
    let before = owners(&sim);
    let clients: Vec<_> = (0..6_u64)
        .map(|client| {
            let sim = sim.clone();
            tokio::spawn(async move {
                for _ in 0..40 {
                    let added = sim.entity::<Counter>(client).add(1).await;
                    added.expect("no caller sees the drain");
                    sim.advance(Duration::from_millis(300)).await;
                }
            })
        })
        .collect();
    let rester = name(&sim, 1).await;

    assert!(ask(&sim, 0, rester.clone(), true).await);
    assert!(ask(&sim, 2, rester.clone(), true).await, "asked twice");
    assert!(!ask(&sim, 0, NodeId::new("nobody"), true).await);
    sim.advance(5 * SECOND).await;
    let without = owners(&sim);
    let there = sim.run_on(1, |node| async move {
        let counter = node.client().entity::<Counter>("elsewhere");
        counter.add(1).await.map_err(drop)
    });
    assert_eq!(there.await.expect("it is up"), Ok(1));
    assert!(!is_ready(&sim, 1).await);
    assert!(ask(&sim, 2, rester, false).await);
    for client in clients {
        client.await.expect("every call was answered");
    }
    sim.advance(5 * SECOND).await;

    assert!(before.contains(&Some(1)), "it had nothing to give away");
    assert!(!without.contains(&Some(1)) && !without.contains(&None));
    assert_eq!(owners(&sim), before);
    assert!(is_ready(&sim, 1).await);
}

#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_cluster_in_which_all_rest_goes_on_serving(sim: Sim) {
    sim.advance(5 * SECOND).await;

    for node in 0..2 {
        let rester = name(&sim, node).await;
        assert!(ask(&sim, 0, rester, true).await);
        sim.advance(5 * SECOND).await;
    }

    assert!(!owners(&sim).contains(&None));
    assert_eq!(sim.entity::<Counter>("a").add(1).await, Ok(1));
}

/// A new life of a drained node takes part.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_drained_node_that_starts_anew_takes_its_share(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let rester = name(&sim, 1).await;
    assert!(ask(&sim, 0, rester, true).await);
    sim.advance(5 * SECOND).await;
    assert!(!owners(&sim).contains(&Some(1)));

    sim.shutdown(1).await.expect("it stops in order");
    sim.restart(1).await;
    sim.advance(5 * SECOND).await;

    assert!(owners(&sim).contains(&Some(1)));
}

/// Only the node itself knows what still runs in it: it is asked.
#[sim::test(nodes = 2, host(Slow), seeds = 4)]
async fn every_node_sees_what_a_drain_waits_for(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let id = (0..).find(|id| sim.owner::<Slow>(id) == Some(1));
    let slow = sim.entity::<Slow>(id.expect("it owns some"));
    let call = tokio::spawn(async move { slow.add(8_000).timeout(60 * SECOND).await });
    sim.advance(SECOND).await;

    let rester = name(&sim, 1).await;
    assert!(ask(&sim, 0, rester, true).await);
    sim.advance(3 * SECOND).await;
    let said = sim.run_on(0, |node| async move { node.reports().await });
    let said = said.await.expect("it is up");

    let texts: Vec<_> = said
        .iter()
        .map(|said| String::from_utf8(said.report.clone().unwrap_or_default()))
        .collect();
    let of_it = texts[1].as_ref().expect("JSON is text");
    assert!(of_it.contains(r#""running":1"#), "{of_it}");
    assert!(of_it.contains(r#""what":"rests""#), "{of_it}");
    assert!(!of_it.contains(r#""moving":[]"#), "{of_it}");
    assert_eq!(call.await.expect("it ends"), Ok(1), "nobody cut it off");
    sim.advance(2 * SECOND).await;
    assert!((0..64).all(|id| sim.owner::<Slow>(id) == Some(0)));
}

/// Handlers that do not end hold up their own shard's move, not the shards of a dead node.
#[sim::test(nodes = 3, host(Slow), seeds = 12)]
async fn what_a_dead_node_owned_does_not_wait_for_a_stuck_handler(sim: Sim) {
    sim.advance(5 * SECOND).await;
    sim.crash(2);
    sim.advance(15 * SECOND).await;
    let (stuck, orphans): (Vec<_>, Vec<_>) =
        (0..64_u64).partition(|id| sim.owner::<Slow>(id) == Some(0));
    let calls: Vec<_> = stuck
        .iter()
        .map(|id| {
            let slow = sim.entity::<Slow>(id);
            tokio::spawn(async move { slow.add(20_000).timeout(120 * SECOND).await })
        })
        .collect();
    sim.advance(SECOND).await;
    // Node 0 has shards to give to the one that is back, and cannot: calls run in them.
    sim.restart(2).await;
    sim.advance(Duration::from_millis(2_500)).await;

    sim.crash(1);
    let began = sim.now();
    let added = orphans.iter().map(|id| {
        let slow = sim.entity::<Slow>(id);
        async move { slow.add(0).timeout(30 * SECOND).await }
    });
    let added = futures_util::future::join_all(added).await;
    let pause = sim.now() - began;

    assert!(!orphans.is_empty() && added.iter().all(|sum| *sum == Ok(1)));
    assert!(pause < SECOND, "{pause:?}");
    for call in calls {
        assert_eq!(call.await.expect("it ends"), Ok(1));
    }
}

#[sim::test(nodes = 4, host(Counter), seeds = 4)]
async fn a_heavier_node_has_more_and_one_without_weight_only_sends(sim: Sim) {
    sim.weigh(2, 3);
    sim.weigh(3, 0);
    sim.advance(5 * SECOND).await;
    for node in [2, 3] {
        sim.shutdown(node).await.expect("it stops in order");
        sim.restart(node).await;
        sim.advance(10 * SECOND).await;
    }

    let mut owned = Vec::new();
    for node in 0..4 {
        let shards = sim.run_on(
            node,
            |node| async move { node.hosting().shards().owned().len() },
        );
        owned.push(shards.await.expect("it is up"));
    }
    let sent = sim.run_on(3, |node| async move {
        let counter = node.client().entity::<Counter>("a");
        counter.add(1).await.map_err(drop)
    });

    assert_eq!(sent.await.expect("it is up"), Ok(1));
    assert_eq!(owned[3], 0, "{owned:?}");
    assert!(owned[2] > owned[0] && owned[2] > owned[1], "{owned:?}");
    assert!(!owners(&sim).contains(&None));
}

/// Who falls again and again gets nothing that would fall with it, for a while.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_node_that_keeps_falling_waits_for_its_shards_and_gets_them_in_the_end(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let before = owners(&sim);

    for _ in 0..2 {
        sim.crash(1);
        sim.restart(1).await;
        sim.advance(3 * SECOND).await;
        assert!(owners(&sim).contains(&Some(1)), "that may happen");
    }
    for _ in 0..3 {
        sim.crash(1);
        sim.restart(1).await;
        sim.advance(2 * SECOND).await;
        assert!(!owners(&sim).contains(&Some(1)), "it fell too often");
    }
    sim.advance(Duration::from_secs(10)).await;
    let waiting = owners(&sim);
    sim.advance(Duration::from_secs(20)).await;

    assert!(!waiting.contains(&Some(1)) && !waiting.contains(&None));
    assert_eq!(owners(&sim), before);
}
