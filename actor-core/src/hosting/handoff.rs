//! Handing shards over to other nodes without losing or refusing what runs in them (architecture
//! D4, D7).
//!
//! Not here: which shards go, and the row that says who owns them; that is actor-cluster's.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::Hosting;
use crate::{
    id::ShardId,
    store::lane::{Item, Verdict},
};

/// How long an activation that was cut off may take to be gone.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(1);

impl Hosting {
    /// Lets what runs in these shards end, at most `within`, cuts off the rest, and waits until
    /// everything of theirs is stored. New work is refused from the beginning, so that its callers
    /// look for the next owner; they wait until there is one. At the end this node does not know
    /// the shards any more: the rows may be released.
    ///
    /// # Cancel safety
    /// A hand-over that is dropped leaves shards that serve nobody until it is done again.
    pub async fn hand_over(self: &Arc<Self>, mut shards: Vec<ShardId>, within: Duration) {
        shards.sort_unstable();
        for shard in &shards {
            self.shards.freeze(*shard);
        }
        for hosted in self.kinds.values() {
            hosted.retire(&shards);
        }
        if !self.gone_within(&shards, within).await {
            tracing::warn!(?within, "handlers are cut off: their shards move");
            for hosted in self.kinds.values() {
                hosted.cut_off(&shards);
            }
            if !self.gone_within(&shards, CUT_OFF_WITHIN).await {
                tracing::error!("an activation does not end; its writes are fenced");
            }
        }
        self.flush(&shards).await;
        for shard in shards {
            self.shards.revoke(shard);
        }
    }

    async fn gone_within(&self, shards: &[ShardId], within: Duration) -> bool {
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.residents.gone(shards) => true,
            () = self.clock.sleep(within) => false,
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
