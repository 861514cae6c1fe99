//! Calls to volatile entities of other nodes: over links, to processes on this machine.

use std::sync::Arc;

use actor_core::Result;

use super::entity_call::Tally;
use crate::{
    arguments::Plan,
    companion::with_kinds,
    load::{closed_loop, paced},
    node::Node,
    report::Line,
};

/// Runs `entity_call_remote`: as fast as it goes, then at half of that.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let node = Node::start(plan, plan.entities, with_kinds).await?;
    let remote = (0_u64..).filter(|id| node.is_remote("tally", &id.to_string()));
    let tallies: Arc<Vec<_>> = Arc::new(
        remote
            .take(plan.entities as usize)
            .map(|id| node.client.entity::<Tally>(id))
            .collect(),
    );
    let operation = move |turn: crate::load::Turn| {
        let tallies = tallies.clone();
        async move { tallies[turn.pick(tallies.len())].add(1).await }
    };
    let full = closed_loop(plan, operation.clone()).await;
    let line = Line::of("entity_call_remote", "none", plan, &full);
    let half = paced(plan, line.ops_per_s() / 2.0, operation).await;
    let half = Line::of("entity_call_remote", "none", plan, &half);
    Ok(vec![line, half.with("what", "half load")])
}
