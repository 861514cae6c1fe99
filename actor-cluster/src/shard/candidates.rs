//! Who is there, and who may be given how large a part of the shards: pure functions of the rows of
//! nodes.
//!
//! Not here: which of them gets which shard ([`super::placement`]).

use std::{collections::BTreeMap, time::Duration};

use actor_core::{
    id::{GroupId, Incarnation, NodeId},
    store::{
        kinds::Catalog,
        nodes::{NodeRow, NodeState},
    },
};

/// Lives of nodes, by name.
pub type Lives = BTreeMap<NodeId, Incarnation>;

/// How large the part of each node is, by name.
pub type Weights = BTreeMap<NodeId, u32>;

/// So many falls in a row cost nothing: a machine may be unlucky.
const FALLS_FREE: u32 = 2;

/// The pause after one fall more; it doubles with each.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Returns the lives that hold a lease: what they own is theirs, whether they may keep it or not.
pub fn there(nodes: &[NodeRow]) -> Lives {
    let holds = |row: &&NodeRow| !row.lease_left.is_zero();
    let rows = nodes.iter().filter(holds);
    rows.map(|row| (row.node.clone(), row.incarnation))
        .collect()
}

/// Says whether a node is a member of a group: one of its kinds is.
///
/// The default group has topics and singletons besides its kinds. As long as it never had a kind,
/// everybody is a member of it, so that somebody has those.
pub fn is_member(row: &NodeRow, group: GroupId, catalog: &Catalog) -> bool {
    row.groups.contains(&group)
        || group == GroupId::DEFAULT && !catalog.has_kinds_of(GroupId::DEFAULT)
}

/// Returns the nodes that may own shards of each group, in the order of their numbers.
pub fn of_groups(nodes: &[NodeRow], catalog: &Catalog) -> Vec<Weights> {
    let groups = (0..).map(GroupId).zip(catalog.groups());
    groups
        .map(|(group, _)| may_own(nodes, |row| is_member(row, group, catalog)))
        .collect()
}

/// Returns the members of a group that may own its shards: those that are up, have a weight and do
/// not flap. If there are none, those that flap; if there are none of them either, those that rest:
/// somebody has to serve.
pub fn may_own(nodes: &[NodeRow], member: impl Fn(&NodeRow) -> bool) -> Weights {
    let of = |choose: fn(&NodeRow) -> bool| -> Weights {
        let rows = nodes.iter().filter(|row| !row.lease_left.is_zero());
        rows.filter(|row| row.weight > 0 && member(row) && choose(row))
            .map(|row| (row.node.clone(), row.weight))
            .collect()
    };
    let choices: [fn(&NodeRow) -> bool; 3] = [
        |row| row.state == NodeState::Up && row.age >= pause(row.falls),
        |row| row.state == NodeState::Up,
        |row| row.state == NodeState::Resting,
    ];
    let mut found = choices.into_iter().map(of);
    found.find(|found| !found.is_empty()).unwrap_or_default()
}

/// Returns how long a new life waits for its part after so many lives that were short and ended
/// without order: each time it gets shards and falls again, their callers wait.
pub fn pause(falls: u32) -> Duration {
    match falls.checked_sub(FALLS_FREE + 1) {
        None => Duration::ZERO,
        Some(more) => PAUSE
            .saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX))
            .min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_falls_again_and_again_waits_longer_each_time_but_not_for_ever() {
        let table = [
            (0, 0),
            (1, 0),
            (2, 0),
            (3, 5),
            (4, 10),
            (5, 20),
            (6, 40),
            (7, 60),
            (34, 60),
            (u32::MAX, 60),
        ];

        for (falls, seconds) in table {
            assert_eq!(pause(falls), Duration::from_secs(seconds), "{falls}");
        }
    }
}
