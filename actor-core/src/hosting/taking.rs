//! What waits in shards that were just won: read at once and to its end, whatever waits elsewhere.
//!
//! Not here: winning them; that is actor-cluster's. What was missed here, the poll finds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Hosting;
use crate::{
    id::{Epoch, ShardId},
    store::StoreError,
    timers::HORIZON,
};

/// The shards whose waiting messages were read since they were won, with the epoch of that time.
#[derive(Debug, Default)]
pub(super) struct TakenUp(Mutex<BTreeMap<ShardId, Epoch>>);

impl TakenUp {
    /// Returns those of the owned shards that are new under their epoch, sorted.
    fn new_among(&self, owned: Vec<(ShardId, Epoch)>) -> Vec<(ShardId, Epoch)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(shard, epoch): &(ShardId, Epoch)| known.get(shard) != Some(epoch);
        owned.into_iter().filter(is_new).collect()
    }

    fn note(&self, shards: Vec<(ShardId, Epoch)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(shards);
    }
}

impl Hosting {
    /// Reads what the shards that were just won have waiting: due messages and near timers. A long
    /// backlog of theirs is read on in the background.
    ///
    /// # Errors
    /// When the store does not answer; the next poll finds them then, or the next call of this.
    pub async fn take_up(self: &Arc<Self>) -> Result<(), StoreError> {
        let won = self.taken_up.new_among(self.shards.owned());
        if won.is_empty() {
            return Ok(());
        }
        let shards = won.iter().map(|(shard, _)| *shard).collect();
        self.read_waiting(shards).await?;
        self.taken_up.note(won);
        Ok(())
    }

    /// Reads what these shards, sorted, have waiting, whether or not it was read before.
    pub(super) async fn read_waiting(
        self: &Arc<Self>,
        shards: Vec<ShardId>,
    ) -> Result<(), StoreError> {
        let next = self.read_ready(Some(&shards), 0).await?;
        self.fetch_timers(Some(&shards), HORIZON).await?;
        if next > 0 {
            let hosting = self.clone();
            self.spawn(async move { hosting.read_on(&shards, next).await });
        }
        Ok(())
    }

    async fn read_on(self: &Arc<Self>, shards: &[ShardId], mut after: i64) {
        while after > 0 {
            match self.read_ready(Some(shards), after).await {
                Ok(next) => after = next,
                Err(error) => {
                    return tracing::warn!(%error, "shards that were won could not be read on");
                }
            }
        }
    }
}
