//! Which node should own which shard (architecture D4): rendezvous hashing with bounded load.
//!
//! Not here: moving them. Only the owner starts a move, and a takeover needs the lease to be over.

use std::collections::{BTreeMap, BTreeSet};

use actor_core::id::{Incarnation, NodeId, ShardId};

/// Which life of which node a shard's row names.
pub type Owner = (NodeId, Incarnation);

/// Which live nodes cannot serve a shard: a newer program wrote something in it.
pub type Declined = BTreeMap<ShardId, BTreeSet<NodeId>>;

/// How much more than its even share a node may be given, in percent.
const LOAD_PERCENT_MAX: usize = 120;

/// What a node should do about its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Shards to take: they should be this node's and no live node owns them.
    pub take: Vec<ShardId>,
    /// Shards to give up: they should be another live node's.
    pub give_up: Vec<ShardId>,
}

/// Returns which node should own each of `count` shards; nothing without live nodes.
///
/// Each shard goes to the node with the highest hash of both names that is not full yet, so a node
/// that comes or goes moves few shards.
pub fn assign(count: u32, live: &BTreeMap<NodeId, Incarnation>) -> Vec<NodeId> {
    assign_but(count, live, &Declined::new())
}

/// Returns the same, but gives no shard to a node that declined it, unless all did.
pub fn assign_but(
    count: u32,
    live: &BTreeMap<NodeId, Incarnation>,
    declined: &Declined,
) -> Vec<NodeId> {
    if live.is_empty() {
        return Vec::new();
    }
    let shards = count as usize;
    let room = (shards * LOAD_PERCENT_MAX).div_ceil(live.len() * 100);
    let mut load: BTreeMap<&NodeId, usize> = live.keys().map(|node| (node, 0)).collect();
    let mut owners = Vec::with_capacity(shards);
    for shard in 0..count {
        let shard = ShardId(shard);
        let cannot = declined.get(&shard);
        // Whoever can serve it at all comes before whoever has room.
        let rank = |node: &NodeId, load: usize| {
            let can = cannot.is_none_or(|cannot| !cannot.contains(node));
            (can, load < room, weight(shard, node))
        };
        let best = load.iter().max_by_key(|(node, load)| rank(node, **load));
        let best = best.map(|(node, _)| *node).expect("there are nodes");
        *load.entry(best).or_default() += 1;
        owners.push(best.clone());
    }
    owners
}

/// Returns what node `me` should do, given the lives that are there, the owner in each shard's row,
/// and which node should own each.
pub fn moves(
    me: &NodeId,
    there: &BTreeMap<NodeId, Incarnation>,
    rows: &[Option<Owner>],
    wanted: &[NodeId],
) -> Moves {
    let mut moves = Moves::default();
    for ((shard, row), wanted) in (0..).map(ShardId).zip(rows).zip(wanted) {
        let owner = row
            .as_ref()
            .filter(|(node, life)| there.get(node) == Some(life));
        match owner {
            None if wanted == me => moves.take.push(shard),
            Some((node, _)) if node == me && wanted != me => moves.give_up.push(shard),
            _ => {}
        }
    }
    moves
}

fn weight(shard: ShardId, node: &NodeId) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(node.as_str().as_bytes(), u64::from(shard.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> BTreeMap<NodeId, Incarnation> {
        names
            .iter()
            .map(|name| (NodeId::new(name), Incarnation(1)))
            .collect()
    }

    fn loads(owners: &[NodeId]) -> BTreeMap<&str, usize> {
        let mut loads = BTreeMap::new();
        for owner in owners {
            *loads.entry(owner.as_str()).or_default() += 1;
        }
        loads
    }

    #[test]
    fn no_node_is_given_much_more_than_its_share() {
        for count in [1, 7, 16, 512] {
            for names in [
                &["a"][..],
                &["a", "b"],
                &["a", "b", "c"],
                &["a", "b", "c", "d", "e"],
            ] {
                let owners = assign(count, &nodes(names));

                assert_eq!(owners.len(), count as usize);
                let most = (count as usize * 120).div_ceil(names.len() * 100);
                assert!(
                    loads(&owners).values().all(|load| *load <= most),
                    "{count} {names:?}"
                );
            }
        }
        assert!(assign(16, &nodes(&[])).is_empty());
    }

    #[test]
    fn a_node_that_leaves_moves_little_but_its_own_shards() {
        let before = assign(512, &nodes(&["a", "b", "c", "d"]));
        let after = assign(512, &nodes(&["a", "b", "c"]));

        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .count();

        let own = before.iter().filter(|owner| owner.as_str() == "d").count();
        assert!(
            moved <= own + 512 / 10,
            "{moved} moved, {own} were the leaver's"
        );
    }

    #[test]
    fn shards_of_the_dead_are_taken_and_shards_of_the_living_given_up_by_their_owner_only() {
        let (a, b) = (NodeId::new("a"), NodeId::new("b"));
        let live = nodes(&["a", "b"]);
        let owners = assign(8, &live);
        let wanted_by = |node: &NodeId| -> Vec<ShardId> {
            let shards = (0..8).map(ShardId).zip(&owners);
            shards
                .filter(|(_, owner)| *owner == node)
                .map(|(shard, _)| shard)
                .collect()
        };
        let all = |name: &str, life| vec![Some((NodeId::new(name), Incarnation(life))); 8];

        for rows in [all("dead", 1), all("b", 0), vec![None; 8]] {
            let expected = Moves {
                take: wanted_by(&a),
                give_up: vec![],
            };
            assert_eq!(moves(&a, &live, &rows, &owners), expected);
        }
        let mine = all("a", 1);
        let expected = Moves {
            take: vec![],
            give_up: wanted_by(&b),
        };
        assert_eq!(moves(&a, &live, &mine, &owners), expected);
        assert_eq!(moves(&b, &live, &mine, &owners), Moves::default());
    }

    #[test]
    fn a_declined_shard_goes_to_a_node_that_can_serve_it_and_others_stay() {
        let (a, b) = (NodeId::new("a"), NodeId::new("b"));
        let live = nodes(&["a", "b"]);
        let before = assign(16, &live);
        let of_a: Vec<_> = (0..16)
            .map(ShardId)
            .filter(|shard| before[shard.0 as usize] == a)
            .collect();
        let by = |names: &[&NodeId]| -> BTreeSet<NodeId> {
            names.iter().map(|node| (*node).clone()).collect()
        };
        let declined = Declined::from([(of_a[0], by(&[&a])), (of_a[1], by(&[&a, &b]))]);

        let after = assign_but(16, &live, &declined);

        let differ = (0..16).filter(|shard| before[*shard] != after[*shard]);
        assert_eq!(differ.collect::<Vec<_>>(), [of_a[0].0 as usize]);
        let mine: Vec<_> = before
            .iter()
            .map(|node| Some((node.clone(), Incarnation(1))))
            .collect();
        let moves = moves(&a, &live, &mine, &after);
        assert_eq!(moves.give_up, [of_a[0]]);
    }
}
