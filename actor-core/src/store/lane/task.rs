//! The loop of a lane: wait, let a batch gather, commit it, tell.

use std::sync::Arc;

use super::{LaneConfig, queue::Queue, round::Round};

/// How often a lane lets other tasks run while its batch still grows.
const YIELDS_MAX: usize = 4;

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// Which lane of the node it is; each has a connection of its own.
    pub(super) number: usize,
    pub(super) config: Arc<LaneConfig>,
    pub(super) queue: Arc<Queue>,
}

impl Lane {
    pub(super) fn new(number: usize, config: Arc<LaneConfig>, queue: Arc<Queue>) -> Self {
        Self {
            number,
            config,
            queue,
        }
    }

    /// Commits batches until the queue is closed and empty.
    pub(super) async fn run(self) {
        while let Some(must) = self.queue.wait(self.config.clock).await {
            self.gather().await;
            let (items, bytes) = (self.config.batch_items_max, self.config.batch_bytes_max);
            let (bodies, dones) = self.queue.take(must, items, bytes);
            if bodies.is_empty() {
                continue; // Another lane was faster.
            }
            let (count, shards) = (bodies.len(), bodies.iter().map(|body| body.shard).collect());
            Round::new(&self, bodies, dones).run().await;
            self.queue.finished(count, &shards);
        }
    }

    /// Lets those who were just answered ask again, so that they join this batch and not the next:
    /// with as many callers as fit one batch it halves the number of commits.
    async fn gather(&self) {
        let mut depth = self.queue.depth();
        for _ in 0..YIELDS_MAX {
            tokio::task::yield_now().await;
            let grown = self.queue.depth();
            if grown == depth {
                return;
            }
            depth = grown;
        }
    }
}
