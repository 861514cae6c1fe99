//! The way out of a node: it says that it drains, then gives away what another node may own,
//! whatever fails meanwhile.
//!
//! Not here: how shards are handed over (`handoff.rs`), and what becomes of those that nobody else
//! may own ([`Node::drain`](crate::Node::drain)).

use std::time::Duration;

use actor_core::{
    clock::{Clock, Instant},
    hosting::Hosting,
    id::{Epoch, ShardId},
    store::{StoreError, nodes},
};

use super::task::Member;
use crate::{node::Phase, shard::candidates};

/// What of this node another one may own.
struct Estate {
    /// What is owned here, served or not.
    owned: Vec<ShardId>,
    /// What only the rows call this node's: a release failed, or a takeover whose answer was lost.
    half_given: Vec<(ShardId, Epoch)>,
}

/// Tells everybody that the node drains: its shards are other nodes' to take.
pub(crate) async fn say_draining(hosting: &Hosting) -> Result<(), StoreError> {
    let shards = hosting.shards();
    let (node, life) = (shards.node().clone(), shards.incarnation());
    let said = hosting.store().write("say draining", move |c| {
        Box::pin(async move { nodes::set_draining(c, &node, life, true).await })
    });
    said.await.map(drop)
}

impl Member {
    /// Gives every shard to whoever else may own it; what runs may go on for `within`, and what
    /// fails is tried again until then. Who is the last one of a group serves its shards until the
    /// end, and what is left then is cut off.
    pub(crate) async fn drain(&self, within: Duration) {
        let deadline = Clock.now() + within;
        let mut said = false;
        while !matches!(*self.phase.borrow(), Phase::Lost(_)) {
            let round = self.drain_on(&mut said, deadline).await;
            if let Ok(false) = round {
                return;
            }
            let left = deadline.saturating_duration_since(Clock.now());
            if let Err(error) = round {
                tracing::warn!(%error, "the drain does not get on");
                let pause = self.hosting.rng().jitter(self.terms.retry_after(), 20);
                Clock.sleep(pause.min(left)).await;
            }
            if left.is_zero() {
                return;
            }
        }
    }

    /// Does what is left to do; says whether there was something to give away.
    async fn drain_on(&self, said: &mut bool, deadline: Instant) -> Result<bool, StoreError> {
        if !*said {
            // First of all: what a node releases that seems to stay is left to it.
            say_draining(&self.hosting).await?;
            *said = true;
        }
        let Estate { owned, half_given } = self.estate().await?;
        let is_any = !owned.is_empty() || !half_given.is_empty();
        if !half_given.is_empty() {
            self.release(half_given).await?;
        }
        let left = deadline.saturating_duration_since(Clock.now());
        self.give_up(owned, left).await?;
        Ok(is_any)
    }

    /// Returns what another node may own, by the database's judgement.
    async fn estate(&self) -> Result<Estate, StoreError> {
        // A takeover that is under way is known here when it is over, and there is none after it.
        let _turn = self.turn.lock().await;
        let map = self.read_map().await?;
        let groups = candidates::of_groups(&map.nodes, &map.catalog);
        let count = self.hosting.groups().count();
        let has_heirs = |shard: ShardId| {
            let heirs = groups.get(shard.group(count).0 as usize);
            heirs.is_some_and(|heirs| heirs.keys().any(|node| node != self.node()))
        };
        let (shards, me) = (
            self.hosting.shards(),
            (self.node().clone(), self.incarnation()),
        );
        let rows = map
            .shards
            .iter()
            .filter(|row| row.owner.as_ref() == Some(&me) && shards.epoch(row.shard).is_none());
        let half_given = rows.map(|row| (row.shard, row.epoch));
        let owned = shards.owned().into_iter().map(|(shard, _)| shard);
        Ok(Estate {
            half_given: half_given.filter(|(shard, _)| has_heirs(*shard)).collect(),
            owned: owned.filter(|shard| has_heirs(*shard)).collect(),
        })
    }
}
