//! Housekeeping: expired rows leave, and nothing due may be left behind (architecture D16, D17).

use std::{sync::Arc, time::Duration};

use super::Hosting;
use crate::store::{StoreError, mailbox, replies, topics};

/// The time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How long a message may be due before it counts as stuck.
const STUCK_AFTER_MS: i64 = 30_000;

/// Rows deleted by one statement, so that no commit waits long.
const PRUNE_ROWS: usize = 1000;

impl Hosting {
    /// Sweeps until the node stops.
    pub(super) async fn keep_sweeping(self: Arc<Self>) {
        loop {
            self.clock.sleep(self.rng.jitter(SWEEP_EVERY, 20)).await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "the sweep failed");
            }
        }
    }

    /// Deletes what expired, queues again what is stuck, and counts it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize, StoreError> {
        self.prune().await?;
        let stuck = self.stuck().await?;
        metrics::gauge!("actor_stuck", "what" => "message").set(stuck as f64);
        if stuck > 0 {
            tracing::error!(stuck, "due messages were neither queued nor running");
            self.poll().await?;
        }
        Ok(stuck)
    }

    /// Returns how many messages are due for more than 30 s without being in memory.
    ///
    /// Rows of kinds this node does not host are held, not stuck.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn stuck(&self) -> Result<usize, StoreError> {
        let before = self.store.now_ms() - STUCK_AFTER_MS;
        let mut after = 0;
        let mut stuck = 0;
        loop {
            let rows = self.store.read("stuck messages", move |connection| {
                Box::pin(async move { mailbox::due(connection, before, after, PRUNE_ROWS).await })
            });
            let rows = rows.await?;
            let full = rows.len() == PRUNE_ROWS;
            for row in rows {
                after = row.seq;
                let hosted = self.kinds.get(&*row.message.kind);
                stuck += usize::from(
                    hosted.is_some_and(|hosted| !hosted.holds(&row.message.id, row.seq)),
                );
            }
            if !full {
                return Ok(stuck);
            }
        }
    }

    async fn prune(&self) -> Result<(), StoreError> {
        loop {
            let now = self.store.now_ms();
            let deleted = self.store.write("prune", move |connection| {
                Box::pin(async move {
                    let replies = replies::prune(connection, now, PRUNE_ROWS).await?;
                    Ok(replies + topics::trim(connection, PRUNE_ROWS).await?)
                })
            });
            if (deleted.await? as usize) < PRUNE_ROWS {
                return Ok(());
            }
        }
    }
}
