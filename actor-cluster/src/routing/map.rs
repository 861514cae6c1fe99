//! Who owns which shard, as far as this node knows: what it read, and what it was told since.
//!
//! A stale entry costs a detour, never more: owners check for themselves.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use actor_core::{
    id::{Epoch, GroupId, ShardId},
    news::News,
};

use crate::transport::{Peer, PeerId};

/// Who owns a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) peer: PeerId,
    pub(crate) epoch: Epoch,
}

/// The owners of all shards, and the nodes that are there.
#[derive(Debug, Default)]
pub(crate) struct OwnerMap {
    inner: RwLock<Inner>,
    news: News,
}

#[derive(Debug, Default)]
struct Inner {
    /// Grows as groups are added; a shard behind its end is not known yet.
    owners: Vec<Known>,
    peers: Arc<[Peer]>,
    /// The groups of which a node is there.
    manned: BTreeSet<GroupId>,
}

/// What is known of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The newest epoch heard of.
    epoch: Epoch,
    /// Who owns it under that epoch; `None` if nobody does.
    owner: Option<PeerId>,
}

impl OwnerMap {
    /// Returns a map of `count` shards of which nothing is known.
    pub(crate) fn new(count: u32) -> Self {
        let map = Self::default();
        map.write().owners.resize(count as usize, Known::default());
        map
    }

    /// Returns the shard's owner.
    pub(crate) fn owner(&self, shard: ShardId) -> Option<Owner> {
        let inner = self.read();
        let known = inner.owners.get(shard.0 as usize)?;
        Some(Owner {
            peer: known.owner.clone()?,
            epoch: known.epoch,
        })
    }

    /// Returns the nodes that are there.
    pub(crate) fn peers(&self) -> Arc<[Peer]> {
        self.read().peers.clone()
    }

    /// Says whether a node of the group is there.
    pub(crate) fn is_manned(&self, group: GroupId) -> bool {
        self.read().manned.contains(&group)
    }

    /// Notes of which groups a node is there.
    pub(crate) fn set_manned(&self, groups: BTreeSet<GroupId>) {
        self.write().manned = groups;
    }

    /// Takes over what was read from the database, in the order of the shards; news that are newer
    /// stay.
    pub(crate) fn replace(&self, rows: &[(ShardId, Epoch, Option<PeerId>)], peers: Vec<Peer>) {
        let mut inner = self.write();
        inner.peers = peers.into();
        let last = rows.last().map_or(0, |(shard, _, _)| shard.0 as usize);
        if inner.owners.len() <= last {
            inner.owners.resize(last + 1, Known::default());
        }
        let mut changed = false;
        for (shard, epoch, owner) in rows {
            let Some(known) = inner.owners.get_mut(shard.0 as usize) else {
                continue;
            };
            let read = Known {
                epoch: *epoch,
                owner: owner.clone(),
            };
            if *epoch >= known.epoch && *known != read {
                *known = read;
                changed = true;
            }
        }
        drop(inner);
        if changed {
            self.news.tell();
        }
    }

    /// Notes that `peer` owns these shards under these epochs, unless newer ones are known.
    pub(crate) fn learn(&self, peer: &PeerId, shards: &[(ShardId, Epoch)]) {
        let mut inner = self.write();
        let mut changed = false;
        for (shard, epoch) in shards {
            if let Some(known) = inner.owners.get_mut(shard.0 as usize)
                && *epoch > known.epoch
            {
                *known = Known {
                    epoch: *epoch,
                    owner: Some(peer.clone()),
                };
                changed = true;
            }
        }
        drop(inner);
        if changed {
            self.news.tell();
        }
    }

    /// Returns what tells of changes.
    pub(crate) fn news(&self) -> &News {
        &self.news
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn owner(map: &OwnerMap) -> Option<(String, u64)> {
        let owner = map.owner(SHARD)?;
        Some((owner.peer.to_string(), owner.epoch.0))
    }

    #[test]
    fn newer_news_win_whoever_brings_them() {
        let map = OwnerMap::new(4);
        let (a, b) = (PeerId::new("a", 1), PeerId::new("b", 1));
        assert_eq!(owner(&map), None);

        map.replace(&[(SHARD, Epoch(3), Some(a.clone()))], Vec::new());
        assert_eq!(owner(&map), Some(("a#1".into(), 3)));
        map.learn(&b, &[(SHARD, Epoch(4))]);
        assert_eq!(owner(&map), Some(("b#1".into(), 4)));
        map.replace(&[(SHARD, Epoch(3), Some(a.clone()))], Vec::new());
        map.learn(&a, &[(SHARD, Epoch(4))]);
        assert_eq!(
            owner(&map),
            Some(("b#1".into(), 4)),
            "what is older is no news"
        );
        map.replace(&[(SHARD, Epoch(4), None)], Vec::new());
        assert_eq!(owner(&map), None, "it was released");
    }

    #[test]
    fn only_changes_are_news() {
        let map = OwnerMap::new(4);
        let a = PeerId::new("a", 1);
        let before = map.news().version();

        map.learn(&a, &[(SHARD, Epoch(1))]);
        let learned = map.news().version();
        map.learn(&a, &[(SHARD, Epoch(1)), (ShardId(9), Epoch(1))]);

        assert_ne!(learned, before);
        assert_eq!(map.news().version(), learned);
    }
}
