//! Handing shards over to other nodes without losing or refusing what runs in them (architecture
//! D4, D7).
//!
//! Not here: which shards go, and the row that says who owns them; that is actor-cluster's.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::Hosting;
use crate::{
    id::{Epoch, ShardId},
    store::lane::{Item, NO_ACTIVATION, Verdict},
};

/// Shards in which something is stored that this program is too old for.
#[derive(Debug, Default)]
pub(super) struct Declined {
    shards: Mutex<BTreeSet<ShardId>>,
    more: Notify,
}

impl Hosting {
    /// Notes that a newer program wrote something in `shard`: another node should have it
    /// (architecture D12).
    pub(crate) fn decline(&self, shard: ShardId) {
        let shards = self.declined.shards.lock();
        let mut shards = shards.unwrap_or_else(PoisonError::into_inner);
        if shards.insert(shard) {
            tracing::warn!(%shard, "a newer program wrote here: another node should serve it");
            self.declined.more.notify_one();
        }
    }

    /// Waits until a shard is found that this program is too old for; returns all that were,
    /// sorted.
    ///
    /// # Cancel safety
    /// A future that is dropped forgets that there was news, not the news.
    pub async fn declined(&self) -> Vec<ShardId> {
        self.declined.more.notified().await;
        let shards = self.declined.shards.lock();
        let shards = shards.unwrap_or_else(PoisonError::into_inner);
        shards.iter().copied().collect()
    }

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

    /// Waits until nothing runs in at least one of these retired shards, and returns all for which
    /// that is so, in the same order.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn emptied(&self, shards: &[ShardId]) -> Vec<ShardId> {
        self.residents.emptied(shards).await
    }

    /// Waits until everything of these retired shards is stored, in which nothing runs any more;
    /// returns each with its last epoch, unless it was taken away meanwhile. This node does not
    /// know them any more then: their rows may be released.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing, or leaves shards that are known no more and whose rows
    /// still name this node; the next look at the rows finds them.
    pub async fn vacate(&self, empty: &[ShardId]) -> Vec<(ShardId, Option<Epoch>)> {
        self.flush(empty).await;
        let vacate = |shard: &ShardId| {
            let epoch = self.shards.epoch(*shard);
            self.shards.revoke(*shard);
            (*shard, epoch)
        };
        empty.iter().map(vacate).collect()
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
            self.lanes().submit(Item {
                shard: *shard,
                epoch,
                activation: NO_ACTIVATION,
                sequence: 1,
                writes: Vec::new(),
                done: Box::new(move |verdict| drop(sender.send(verdict))),
            });
            answers.push(answer);
        }
        for answer in answers {
            // However it ended, it was answered after all before it.
            drop(answer.await);
        }
        for shard in shards {
            self.lanes().settled(*shard).await;
        }
    }
}
