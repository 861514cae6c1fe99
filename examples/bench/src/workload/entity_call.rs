//! Calls to volatile entities of this node.

use std::sync::Arc;

use actor_core::{Client, Entity, Result, handlers};

use crate::{arguments::Plan, load::closed_loop, node::Node, report::Line};

/// An entity that counts and forgets.
#[derive(Debug, Default, Entity)]
pub(crate) struct Tally {
    count: u64,
}

#[handlers]
impl Tally {
    /// Adds; returns the sum.
    pub fn add(&mut self, number: u64) -> u64 {
        self.count += number;
        self.count
    }
}

/// Runs `entity_call`: the references are made once, as the floor's are.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let node = Node::start(plan, plan.entities, |node| node.host::<Tally>()).await?;
    let tallies = Arc::new(tallies(&node.client, plan.entities));
    let load = closed_loop(plan, move |turn| {
        let tallies = tallies.clone();
        async move { tallies[turn.pick(tallies.len())].add(1).await }
    });
    Ok(vec![Line::of("entity_call", "none", plan, &load.await)])
}

/// Runs `entity_call_by_id`: each call finds its entity by its id, as a web handler does.
pub(super) async fn by_id(plan: &Plan) -> Result<Vec<Line>> {
    let node = Node::start(plan, plan.entities, |node| node.host::<Tally>()).await?;
    let (client, count) = (node.client.clone(), plan.entities as usize);
    let load = closed_loop(plan, move |turn| {
        let tally = client.entity::<Tally>(turn.pick(count));
        async move { tally.add(1).await }
    });
    Ok(vec![Line::of(
        "entity_call_by_id",
        "none",
        plan,
        &load.await,
    )])
}

/// Returns references to entities 0 to `count`.
pub(super) fn tallies(client: &Client, count: u32) -> Vec<TallyRef> {
    (0..count).map(|id| client.entity::<Tally>(id)).collect()
}
