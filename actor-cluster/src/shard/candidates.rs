//! Who is there, and who may be given shards: pure functions of the rows of nodes.
//!
//! Not here: which of them gets which shard ([`super::placement`]).

use std::collections::BTreeMap;

use actor_core::{
    id::{Incarnation, NodeId},
    store::nodes::{NodeRow, NodeState},
};

/// Lives of nodes, by name.
pub type Lives = BTreeMap<NodeId, Incarnation>;

/// Returns the lives that hold a lease: what they own is theirs, whether they may keep it or not.
pub fn there(nodes: &[NodeRow]) -> Lives {
    lives(nodes.iter().filter(|row| !row.lease_left.is_zero()))
}

/// Returns the lives that may own shards: those that are up. If there are none, those that rest:
/// somebody has to serve.
pub fn may_own(nodes: &[NodeRow]) -> Lives {
    let state = |state| {
        let of = move |row: &&NodeRow| row.state == state && !row.lease_left.is_zero();
        lives(nodes.iter().filter(of))
    };
    let up = state(NodeState::Up);
    match up.is_empty() {
        true => state(NodeState::Resting),
        false => up,
    }
}

fn lives<'a>(rows: impl Iterator<Item = &'a NodeRow>) -> Lives {
    rows.map(|row| (row.node.clone(), row.incarnation))
        .collect()
}
