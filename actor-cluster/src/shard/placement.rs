//! Which node should own which shard (architecture D4): weighted rendezvous hashing with bounded
//! load.
//!
//! Not here: moving them. Only the owner starts a move, and a takeover needs the lease to be over.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use actor_core::id::{Incarnation, NodeId, ShardId};
use xxhash_rust::xxh3::xxh3_64;

use super::candidates::{Lives, Weights};

/// Which life of which node a shard's row names.
pub type Owner = (NodeId, Incarnation);

/// Which live nodes cannot serve a shard: a newer program wrote something in it.
pub type Declined = BTreeMap<ShardId, BTreeSet<NodeId>>;

/// How much more than its even share a node may be given, in percent.
const LOAD_PERCENT_MAX: u64 = 120;

/// What a node should do about its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Shards to take: they should be this node's and no live node owns them.
    pub take: Vec<ShardId>,
    /// Shards to give up: they should be another live node's.
    pub give_up: Vec<ShardId>,
}

/// Which node should own each shard of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The first of the group's shards.
    first: u32,
    nodes: Vec<NodeId>,
    /// For each shard its node's place among `nodes`.
    owners: Vec<u32>,
}

impl Assignment {
    /// Returns which node should own `shard`; `None` if nobody may own any, or the shard is of
    /// another group.
    pub fn owner(&self, shard: ShardId) -> Option<&NodeId> {
        let place = self.owners.get(shard.0.checked_sub(self.first)? as usize)?;
        self.nodes.get(*place as usize)
    }

    /// Returns which node should own each of the group's shards, in their order.
    pub fn owners(&self) -> impl Iterator<Item = &NodeId> {
        self.owners.iter().map(|place| &self.nodes[*place as usize])
    }
}

/// One node that may own shards.
struct Place {
    /// Of its name.
    hash: u64,
    weight: u32,
    /// How many shards it may be given, and how many it was.
    room: u64,
    load: u64,
}

/// Which node should own each shard of all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many shards each group has.
    count: u32,
    groups: Vec<Assignment>,
}

impl Wanted {
    /// Shares out the shards of each group, `count` of them, among the nodes that may own them:
    /// the members of one group have no part in another's.
    pub fn of(count: u32, members: &[Weights], declined: &Declined) -> Self {
        let firsts = (0..).map(|group| group * count);
        let groups = firsts.zip(members);
        let groups = groups.map(|(first, members)| assign(first..first + count, members, declined));
        Self {
            count,
            groups: groups.collect(),
        }
    }

    /// Returns which node should own `shard`; `None` where nobody may own any of its group.
    pub fn owner(&self, shard: ShardId) -> Option<&NodeId> {
        let group = self.groups.get(shard.group(self.count).0 as usize)?;
        group.owner(shard)
    }
}

/// Returns which node should own each of these shards; nothing without nodes.
///
/// Each shard goes to the node that ranks it highest and is not full yet: ranks are hashes of both
/// names, stretched by the weight, so a node that comes or goes moves little but its own part. A
/// node without weight is given nothing; one that declined a shard only if all did.
pub fn assign(shards: Range<u32>, weights: &Weights, declined: &Declined) -> Assignment {
    let (first, count) = (shards.start, shards.end - shards.start);
    let mut weights: Vec<_> = weights.iter().filter(|(_, weight)| **weight > 0).collect();
    weights.sort_by_key(|(_, weight)| **weight);
    if weights.is_empty() {
        return Assignment::default();
    }
    let total: u64 = weights.iter().map(|(_, weight)| u64::from(**weight)).sum();
    let mut places: Vec<_> = weights
        .iter()
        .map(|(node, weight)| place(count, node, **weight, total))
        .collect();
    let mut owners = Vec::with_capacity(count as usize);
    for shard in shards {
        let hash = mix(u64::from(shard));
        let cannot = declined.get(&ShardId(shard));
        // Nearly always the first choice has room, and then nothing else has to be looked at.
        let favourite = best(&places, hash, |_| true).expect("there are nodes");
        let best = match cannot {
            None if has_room(&places[favourite]) => favourite,
            _ => {
                let can =
                    |place: usize| cannot.is_none_or(|cannot| !cannot.contains(weights[place].0));
                // Whoever can serve it at all comes before whoever has room.
                best(&places, hash, |place| {
                    can(place) && has_room(&places[place])
                })
                .or_else(|| best(&places, hash, can))
                .unwrap_or(favourite)
            }
        };
        places[best].load += 1;
        owners.push(u32::try_from(best).expect("fewer nodes than a u32 counts"));
    }
    let nodes = weights.into_iter().map(|(node, _)| node.clone()).collect();
    Assignment {
        first,
        nodes,
        owners,
    }
}

/// Returns a node's place before anything is given to it.
///
/// Its room is 1.2 times its even share. What of that is not whole counts for some nodes and not
/// for others, as their names say: if all rounded alike, one node more or less could change the
/// room of all at once, and with it the owners of many shards.
fn place(count: u32, node: &NodeId, weight: u32, total: u64) -> Place {
    let hash = xxh3_64(node.as_str().as_bytes());
    let part = u64::from(count) * u64::from(weight);
    let even = part.div_ceil(total);
    let hundredth = part * LOAD_PERCENT_MAX / total;
    let room = (hundredth + mix(hash) % 100) / 100;
    Place {
        hash,
        weight,
        // Never so little that not all shards have a place.
        room: room.max(even),
        load: 0,
    }
}

fn has_room(place: &Place) -> bool {
    place.load < place.room
}

/// Returns who ranks a shard highest among those that `may` own it.
///
/// A hash is a draw from 0 to 1, and the greatest of `draw ^ (1 / weight)` wins: each node in
/// proportion to its weight, whoever else is there. Nodes of one weight compare their draws alone;
/// the logarithm is taken of the greatest of each run of equal weights.
fn best(places: &[Place], shard: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    let mut first = 0;
    while first < places.len() {
        let weight = places[first].weight;
        let (mut greatest, mut winner, mut next) = (0, None, first);
        while next < places.len() && places[next].weight == weight {
            let draw = mix(places[next].hash ^ shard);
            if (draw > greatest || winner.is_none()) && may(next) {
                (greatest, winner) = (draw, Some(next));
            }
            next += 1;
        }
        if let Some(winner) = winner {
            let rank = rank(greatest, weight);
            if best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, winner));
            }
        }
        first = next;
    }
    best.map(|(_, winner)| winner)
}

/// Returns the logarithm of `draw ^ (1 / weight)`; the order is the same.
fn rank(draw: u64, weight: u32) -> f64 {
    let draw = (draw as f64 + 1.0) / (u64::MAX as f64 + 2.0);
    draw.ln() / f64::from(weight)
}

/// Returns bits that look drawn by lot, always the same for the same number: multiplications are
/// enough here, and cheap enough for each pair of a thousand nodes and a hundred thousand shards.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

/// Returns what node `me` should do, given the lives that are there, the owner in each shard's row,
/// and which node should own each.
pub fn moves(me: &NodeId, there: &Lives, rows: &[Option<Owner>], wanted: &Wanted) -> Moves {
    let mut moves = Moves::default();
    for (shard, row) in (0..).map(ShardId).zip(rows) {
        let Some(wanted) = wanted.owner(shard) else {
            continue; // Nobody may own any of its group: what is owned stays where it is.
        };
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

/// The last computation, for as long as nothing it was made of changes.
#[derive(Debug, Default)]
pub struct Cached {
    last: Option<(Vec<Weights>, Declined, Wanted)>,
}

impl Cached {
    /// Returns [`Wanted::of`] these, made anew only if something changed.
    pub fn assign(&mut self, count: u32, members: Vec<Weights>, declined: Declined) -> &Wanted {
        let same = |last: &(Vec<Weights>, Declined, Wanted)| {
            (&last.0, &last.1, last.2.count) == (&members, &declined, count)
        };
        let last = self.last.take().filter(same);
        let last = last.unwrap_or_else(|| {
            let wanted = Wanted::of(count, &members, &declined);
            (members, declined, wanted)
        });
        &self.last.insert(last).2
    }
}

#[cfg(test)]
mod tests;
