//! Handing shards over to other nodes without losing or refusing what runs in them (architecture
//! D4, D7).
//!
//! Not here: which shards go, and the row that says who owns them; that is actor-cluster's.

use tokio::sync::oneshot;

use super::Hosting;
use crate::{
    id::ShardId,
    store::lane::{Item, Verdict},
};

impl Hosting {
    /// Begins to hand these shards over, sorted: new work in them is refused, so that its callers
    /// look for the next owner and wait until there is one; what was taken in goes on to its end.
    pub fn retire(&self, shards: &[ShardId]) {
        for shard in shards {
            self.shards.freeze(*shard);
        }
        for hosted in self.kinds.values() {
            hosted.retire(shards);
        }
    }

    /// Waits until nothing runs in at least one of these retired shards and everything of it is
    /// stored; returns all for which that is so. This node does not know them any more then: their
    /// rows may be released.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing, or leaves shards that are known no more and whose rows
    /// still name this node; the next round of balancing finds them.
    pub async fn vacated(&self, shards: &[ShardId]) -> Vec<ShardId> {
        let empty = self.residents.emptied(shards).await;
        self.flush(&empty).await;
        for shard in &empty {
            self.shards.revoke(*shard);
        }
        empty
    }

    /// Cuts off what still runs in these shards, sorted; its callers learn that the outcome is
    /// unknown.
    pub fn cut_off(&self, shards: &[ShardId]) {
        for shard in shards {
            self.shards.cut(*shard);
        }
        for hosted in self.kinds.values() {
            hosted.cut_off(shards);
        }
    }

    /// Waits until the lanes have answered for all earlier items of these shards: a lane answers in
    /// the order it was given them.
    async fn flush(&self, shards: &[ShardId]) {
        let mut answers = Vec::with_capacity(shards.len());
        for shard in shards {
            let Some(epoch) = self.shards.epoch(*shard) else {
                continue; // Taken away meanwhile: nothing of ours can be stored any more.
            };
            let (sender, answer) = oneshot::channel::<Verdict>();
            let activation = self.next_activation();
            self.lanes().submit(Item {
                shard: *shard,
                epoch,
                activation,
                sequence: 1,
                writes: Vec::new(),
                done: Box::new(move |verdict| drop(sender.send(verdict))),
            });
            answers.push((activation, answer));
        }
        for (activation, answer) in answers {
            // However it ended, it was answered after all before it.
            drop(answer.await);
            self.lanes().forget(activation);
        }
        for shard in shards {
            self.lanes().settled(*shard).await;
        }
    }
}
