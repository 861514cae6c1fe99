//! Calls that lead back to an entity which waits for them, over any number of nodes.

use std::{collections::BTreeMap, time::Duration};

use actor_cluster::sim::{self, Sim};
use actor_core::{Ctx, Entity, handlers};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// Passes a call on.
#[derive(Debug, Default, Entity)]
pub(crate) struct Relay;

#[handlers]
impl Relay {
    /// Calls the first of the path, which calls the next; returns what the last one says.
    pub async fn pass(&mut self, mut path: Vec<String>, ctx: &mut Ctx<Self>) -> String {
        if path.is_empty() {
            return "the end".into();
        }
        let next = ctx.entity::<Relay>(path.remove(0));
        let passed = next.pass(path).timeout(4 * SECOND).await;
        passed.unwrap_or_else(|error| error.to_string())
    }
}

/// Passes a call on, and keeps how often.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Post {
    passed: u64,
}

#[handlers]
impl Post {
    /// As [`Relay::pass`].
    pub async fn pass(&mut self, mut path: Vec<String>, ctx: &mut Ctx<Self>) -> String {
        self.passed += 1;
        if path.is_empty() {
            return "the end".into();
        }
        let next = ctx.entity::<Post>(path.remove(0));
        let passed = next.pass(path).timeout(4 * SECOND).await;
        passed.unwrap_or_else(|error| error.to_string())
    }
}

/// Returns an id for each node, owned by it.
fn one_of_each(sim: &Sim, owner: impl Fn(&str) -> Option<usize>) -> Vec<String> {
    let ids = (0..64).map(|id| format!("e{id}"));
    let owned = ids.filter_map(|id| Some((owner(&id)?, id)));
    let by_node: BTreeMap<_, _> = owned.collect();
    assert_eq!(by_node.len(), sim.nodes(), "every node owns some");
    by_node.into_values().collect()
}

fn path(ids: &[&String]) -> Vec<String> {
    ids.iter().map(|id| (*id).clone()).collect()
}

#[sim::test(nodes = 3, host(Relay, Post), seeds = 4)]
async fn a_chain_that_leads_back_over_other_nodes_ends_at_once(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let relays = one_of_each(&sim, |id| sim.owner::<Relay>(id));
    let [a, b, c] = &relays[..] else {
        panic!("three nodes")
    };
    let posts = one_of_each(&sim, |id| sim.owner::<Post>(id));
    let [x, y, z] = &posts[..] else {
        panic!("three nodes")
    };

    let began = sim.now();
    let over_two = sim.entity::<Relay>(a).pass(path(&[b, a])).await;
    let over_three = sim.entity::<Relay>(a).pass(path(&[b, c, a])).await;
    let to_the_middle = sim.entity::<Relay>(a).pass(path(&[b, c, b])).await;
    let durable = sim.entity::<Post>(x).pass(path(&[y, z, x])).await;
    let took = sim.now() - began;

    let told = |chain: String| Ok(format!("the call leads back to a waiting entity: {chain}"));
    assert_eq!(
        over_two,
        told(format!("relay/{a} -> relay/{b} -> relay/{a}"))
    );
    assert_eq!(
        over_three,
        told(format!("relay/{a} -> relay/{b} -> relay/{c} -> relay/{a}"))
    );
    assert_eq!(
        to_the_middle,
        told(format!("relay/{b} -> relay/{c} -> relay/{b}"))
    );
    assert_eq!(
        durable,
        told(format!("post/{x} -> post/{y} -> post/{z} -> post/{x}"))
    );
    assert!(took < 3 * SECOND, "{took:?}");
}

/// Only who waits is in the chain.
#[sim::test(nodes = 3, host(Relay), seeds = 4)]
async fn a_chain_that_does_not_lead_back_ends_where_it_ends(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let relays = one_of_each(&sim, |id| sim.owner::<Relay>(id));
    let [a, b, c] = &relays[..] else {
        panic!("three nodes")
    };

    for _ in 0..2 {
        let passed = sim.entity::<Relay>(a).pass(path(&[b, c])).await;
        assert_eq!(passed, Ok("the end".into()));
    }
}
