//! Shards that a row calls this node's and that it does not serve: takes them up again, safely.
//!
//! That is how a takeover looks whose answer was lost, and a release that failed or whose end is
//! unknown. Not here: which shards those are; `task.rs` compares the rows with memory.

use actor_core::{
    id::{Epoch, ShardId},
    store::{StoreError, mailbox, ownership},
};

use super::task::Member;
use crate::transport::Note;

/// What the database said about shards it was asked for: their epochs now, as far as they are this
/// node's, and the newest stored message.
type Regained = (Vec<(ShardId, Epoch)>, i64);

impl Member {
    /// Serves shards that are this node's by the rows it read; says whether there were any.
    ///
    /// Invariant: nothing is served by a row that was read while a release of it may be under way.
    /// Each shard gets a new epoch first. The lock for that waits for the end of the release, and
    /// one that is still to come names the old epoch and changes nothing.
    pub(super) async fn regain(&self, shards: Vec<(ShardId, Epoch)>) -> bool {
        if shards.is_empty() {
            return false;
        }
        let (regained, last) = match self.raise(shards).await {
            Ok(regained) => regained,
            Err(error) => {
                tracing::warn!(%error, "shards could not be taken up again yet");
                return false;
            }
        };
        for (shard, epoch) in &regained {
            // Perhaps it was taken from somebody whom something that waits there killed.
            self.hosting.suspect(*shard, last);
            self.hosting.shards().grant(*shard, *epoch);
        }
        self.tell_taken(&regained);
        !regained.is_empty()
    }

    async fn raise(&self, shards: Vec<(ShardId, Epoch)>) -> Result<Regained, StoreError> {
        let (node, life) = (self.node().clone(), self.incarnation());
        let raised = self.hosting.store().write("regain shards", move |c| {
            Box::pin(async move {
                let mut ours = Vec::with_capacity(shards.len());
                for (shard, epoch) in shards {
                    let now = ownership::raise(c, shard, &node, life, epoch).await?;
                    ours.extend(now.map(|epoch| (shard, epoch)));
                }
                Ok((ours, mailbox::last_seq(c).await?))
            })
        });
        raised.await
    }

    /// Lets calls find these shards here, from everywhere.
    pub(super) fn tell_taken(&self, shards: &[(ShardId, Epoch)]) {
        if let (Some(peers), false) = (&self.peers, shards.is_empty()) {
            peers.map.learn(&peers.me, shards);
            peers.tell_all(&Note::Took(shards.to_vec()));
        }
    }
}
