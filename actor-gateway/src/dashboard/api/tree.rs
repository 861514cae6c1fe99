//! The supervision tree: a node, its shards with something in memory, and their activations.
//!
//! A node may hold a hundred thousand of them, so what needs a look comes first, and what is left
//! out is counted where it would be.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use actor_core::{
    hosting::{Hosting, Target},
    id::ShardId,
};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::kinds::activation;
use crate::gateway::Shared;

/// The most shards that are drawn.
const SHARDS_MAX: usize = 60;

/// The most activations that are drawn under one shard.
const LEAVES_MAX: usize = 8;

/// An activation with its kind.
type Leaf = (&'static str, Target);

/// A shard with something in memory.
#[derive(Debug, Default)]
struct Branch {
    /// By kind: how many are in memory, and how many messages run or wait there.
    kinds: BTreeMap<&'static str, (usize, usize)>,
    leaves: Vec<Leaf>,
    hidden: usize,
}

/// Draws this node, its shards and their activations as they supervise each other.
pub(in crate::dashboard) async fn tree(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let hosting = shared.client.hosting();
    let (mut kinds, mut leaves) = (Vec::new(), Vec::new());
    for hosted in hosting.kinds() {
        let targets = hosted.targets();
        kinds.push(json!({
            "kind": hosted.kind(),
            "role": hosted.role(),
            "resident": targets.len(),
            "mailbox_depth": targets.iter().map(|target| target.depth).sum::<usize>(),
            "restarts": hosted.meter().restarts(),
        }));
        leaves.extend(targets.into_iter().map(|target| (hosted.kind(), target)));
    }
    let resident = leaves.len();
    let all = branches(leaves);
    let (with_something, drawn) = (all.len(), few(all));
    let shown: usize = drawn.values().map(|branch| branch.leaves.len()).sum();
    let shards: Vec<Value> = drawn
        .iter()
        .map(|(shard, branch)| about(hosting, *shard, branch))
        .collect();
    Json(json!({
        "node": hosting.shards().node(),
        "incarnation": hosting.shards().incarnation().0,
        "owned": hosting.shards().owned().len(),
        "sessions": shared.sessions.count(),
        "kinds": kinds,
        "resident": resident,
        "shards": shards,
        "shards_hidden": with_something - shards.len(),
        "hidden": resident - shown,
    }))
}

fn about(hosting: &Hosting, shard: ShardId, branch: &Branch) -> Value {
    let entities = branch.leaves.iter().map(|(kind, target)| {
        let mut entity = activation(hosting, target);
        entity["kind"] = (*kind).into();
        entity
    });
    let kinds = branch.kinds.iter().map(|(kind, (resident, depth))| {
        json!({"kind": kind, "resident": resident, "mailbox_depth": depth})
    });
    json!({
        "shard": shard,
        "epoch": hosting.shards().epoch(shard),
        "kinds": kinds.collect::<Vec<_>>(),
        "entities": entities.collect::<Vec<_>>(),
        "hidden": branch.hidden,
    })
}

/// Groups activations by shard. Of each shard those that failed come first, then those with most to
/// do; the rest is counted.
fn branches(leaves: Vec<Leaf>) -> BTreeMap<ShardId, Branch> {
    let mut branches: BTreeMap<ShardId, Branch> = BTreeMap::new();
    for leaf in leaves {
        let branch = branches.entry(leaf.1.shard).or_default();
        let (resident, depth) = branch.kinds.entry(leaf.0).or_default();
        *resident += 1;
        *depth += leaf.1.depth;
        branch.leaves.push(leaf);
    }
    for branch in branches.values_mut() {
        // A stable sort: what is alike stays in the order of kinds and ids.
        branch
            .leaves
            .sort_by_key(|(_, target)| Reverse((target.failures, target.depth)));
        branch.hidden = branch.leaves.len().saturating_sub(LEAVES_MAX);
        branch.leaves.truncate(LEAVES_MAX);
        branch.leaves.sort_by_key(|(kind, _)| *kind);
    }
    branches
}

/// Leaves as many shards as can be drawn: those where something failed or waits, then those that
/// hold most.
fn few(branches: BTreeMap<ShardId, Branch>) -> BTreeMap<ShardId, Branch> {
    let mut branches: Vec<_> = branches.into_iter().collect();
    branches.sort_by_key(|(_, branch)| {
        let failures = branch
            .leaves
            .iter()
            .map(|(_, target)| target.failures)
            .max();
        let depth: usize = branch.kinds.values().map(|(_, depth)| depth).sum();
        let resident: usize = branch.kinds.values().map(|(resident, _)| resident).sum();
        Reverse((failures, depth, resident))
    });
    branches.truncate(SHARDS_MAX);
    branches.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{LEAVES_MAX, Leaf, SHARDS_MAX, branches, few};
    use actor_core::{hosting::Target, id::ShardId};

    fn leaf(kind: &'static str, id: &str, shard: u32, depth: usize, failures: u32) -> Leaf {
        let target = Target {
            id: id.into(),
            shard: ShardId(shard),
            depth,
            idle_since: None,
            failures,
        };
        (kind, target)
    }

    #[test]
    fn a_shard_shows_what_failed_and_what_is_busy_and_counts_the_rest() {
        let idle = (0..20).map(|n| leaf("cart", &format!("c-{n:02}"), 7, 0, 0));
        let busy = [leaf("stock", "tea", 7, 3, 0), leaf("cart", "bad", 7, 0, 2)];

        let drawn = branches(idle.chain(busy).collect());

        let branch = &drawn[&ShardId(7)];
        let shown: Vec<_> = branch
            .leaves
            .iter()
            .map(|(_, target)| target.id.as_str())
            .collect();
        assert_eq!(
            shown,
            ["bad", "c-00", "c-01", "c-02", "c-03", "c-04", "c-05", "tea"]
        );
        assert_eq!((shown.len(), branch.hidden), (LEAVES_MAX, 14));
        assert_eq!(branch.kinds["cart"], (21, 0));
        assert_eq!(branch.kinds["stock"], (1, 3));
    }

    #[test]
    fn of_too_many_shards_those_that_need_a_look_are_shown_in_their_order() {
        let idle = (0..100).map(|shard| leaf("cart", "c", shard, 0, 0));
        let looks = [leaf("cart", "x", 99, 0, 1), leaf("cart", "y", 98, 5, 0)];

        let drawn = few(branches(idle.chain(looks).collect()));

        let shards: Vec<_> = drawn.keys().map(|shard| shard.0).collect();
        assert_eq!(shards.len(), SHARDS_MAX);
        assert!(
            shards.ends_with(&[98, 99]) && shards.is_sorted(),
            "{shards:?}"
        );
    }
}
