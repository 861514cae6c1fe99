//! What a renewal of the lease says about the shards this node owns.
//!
//! The same is found by the looks at the map. But those may fail for long while renewals succeed,
//! and then nobody else would say that a shard is gone.

use actor_core::id::{Epoch, ShardId};

use super::task::Member;
use crate::node::cluster::What;

impl Member {
    /// Stops serving what was owned `before` the renewal was sent and is not `named` by it.
    pub(super) fn heed_renewal(&self, before: &[(ShardId, Epoch)], named: &[(ShardId, Epoch)]) {
        let shards = self.hosting.shards();
        let unnamed = unnamed(before, named).into_iter();
        // One that was given up, or won anew, meanwhile stays as it is.
        let lost = unnamed.filter(|(shard, epoch)| shards.revoke_epoch(*shard, *epoch));
        let lost: Vec<_> = lost.map(|(shard, _)| shard).collect();
        if !lost.is_empty() {
            self.hosting.give_up(&lost);
            tracing::warn!(
                shards = lost.len(),
                "the renewal says that shards were lost"
            );
            self.changes.note(What::Lost { shards: lost.len() });
        }
    }
}

/// Returns what of `before` is not among `named`, both sorted. Another epoch there is the owner's
/// own doing: it raises the epoch after a commit of unknown end.
fn unnamed(before: &[(ShardId, Epoch)], named: &[(ShardId, Epoch)]) -> Vec<(ShardId, Epoch)> {
    let is_named = |shard| {
        named
            .binary_search_by_key(&shard, |(shard, _)| *shard)
            .is_ok()
    };
    let gone = before.iter().filter(|(shard, _)| !is_named(*shard));
    gone.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shards_that_a_renewal_does_not_name_are_lost() {
        let owned = |pairs: &[(u32, u64)]| -> Vec<_> {
            let pairs = pairs.iter();
            pairs
                .map(|(shard, epoch)| (ShardId(*shard), Epoch(*epoch)))
                .collect()
        };
        type Pairs = &'static [(u32, u64)];
        let table: [(&str, Pairs, Pairs, Pairs); 5] = [
            ("all there", &[(1, 4), (2, 4)], &[(1, 4), (2, 4)], &[]),
            ("one lost", &[(1, 4), (2, 4)], &[(2, 4)], &[(1, 4)]),
            ("all lost", &[(1, 4), (2, 4)], &[], &[(1, 4), (2, 4)]),
            ("raised meanwhile", &[(1, 4)], &[(1, 5)], &[]),
            ("won meanwhile", &[(1, 4)], &[(1, 4), (3, 9)], &[]),
        ];
        for (claim, before, named, lost) in table {
            assert_eq!(
                unnamed(&owned(before), &owned(named)),
                owned(lost),
                "{claim}"
            );
        }
    }
}
