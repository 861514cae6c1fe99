//! Group commit: many entities' writes in one fenced transaction (architecture D2, D6).
//!
//! While one transaction is in flight the next batch gathers. Read [`item`] for the contract, then
//! `task` for the loop, `commit` for the transaction. Not here: what an item means; the host builds
//! items and acts on verdicts.

pub mod item;

mod queue;
mod task;

mod round;

mod commit;
mod fence;
mod rows;

mod meter;
mod raise;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::oneshot, task::JoinHandle};

pub use self::item::{Announced, EventHook, Item, NO_ACTIVATION, Verdict, Write};
use self::{queue::Queue, task::Lane};
use super::Store;
use crate::{
    clock::{Clock, Rng},
    id::{Epoch, ShardId},
    shards::Shards,
};

/// What the lanes of a node need.
#[derive(Clone)]
#[non_exhaustive]
pub struct LaneConfig {
    /// Where to write.
    pub store: Store,
    /// What this node owns.
    pub shards: Arc<Shards>,
    /// Draws the numbers of new topics' histories and jitter.
    pub rng: Rng,
    /// The node's time, for waits between repeats.
    pub clock: Clock,
    /// Is told about committed events.
    pub on_events: EventHook,
    /// How many items may wait, for each lane. Default: 8192. Above it an item fails as
    /// `Overloaded`.
    pub queue_items_max: usize,
    /// How many items a transaction takes. Default: 512, at least 1.
    pub batch_items_max: usize,
    /// How many bytes of values a transaction takes, the first item excepted. Default: 4 MiB.
    pub batch_bytes_max: usize,
}

impl LaneConfig {
    /// Returns the default configuration.
    pub fn new(store: Store, shards: Arc<Shards>, rng: Rng, on_events: EventHook) -> Self {
        Self {
            store,
            shards,
            rng,
            clock: Clock,
            on_events,
            queue_items_max: 8192,
            batch_items_max: 512,
            batch_bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for LaneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneConfig")
            .field("store", &self.store)
            .field("queue_items_max", &self.queue_items_max)
            .field("batch_items_max", &self.batch_items_max)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The committer lanes of a node, each with a connection; SQLite has one. They share what waits,
/// and a shard is in one lane's batch at a time. Cheap to clone; the last handle dropped stops
/// them.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Lanes {
    /// Starts the lanes' tasks. Must be called inside a runtime.
    pub fn start(config: LaneConfig) -> Self {
        let count = config.store.lanes();
        let config = Arc::new(config);
        let queue = Arc::new(Queue::new(config.queue_items_max, count));
        let lane = |number| Lane::new(number, Arc::clone(&config), Arc::clone(&queue));
        let tasks = (0..count).map(|number| tokio::spawn(lane(number).run()));
        let tasks = Mutex::new(tasks.collect());
        Self(Arc::new(Inner { queue, tasks }))
    }

    /// Queues an item; never blocks. Items of one activation are stored in the order submitted.
    ///
    /// At the queue's bound, and after [`Lanes::stop`], the item's `done` is called here, on the
    /// caller's thread, with `Failed` and
    /// [`StoreErrorKind::Overloaded`](super::StoreErrorKind::Overloaded) or `Unavailable`, and
    /// later items of the activation are refused: hold no lock that `done` takes.
    pub fn submit(&self, item: Item) {
        self.0.queue.push(item);
    }

    /// Submits `writes` as an item of their own and waits for the verdict.
    ///
    /// `activation` must be of no other item: it is forgotten afterwards.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the item back.
    pub async fn commit(
        &self,
        shard: ShardId,
        epoch: Epoch,
        activation: u64,
        writes: Vec<Write>,
    ) -> Verdict {
        let (sender, verdict) = oneshot::channel();
        self.submit(Item {
            shard,
            epoch,
            activation,
            sequence: 0,
            writes,
            done: Box::new(move |verdict| drop(sender.send(verdict))),
        });
        // The lane tells every item unless its runtime is gone, and then so are we.
        let verdict = verdict.await.unwrap_or(Verdict::Refused);
        self.forget(activation);
        verdict
    }

    /// Forgets that an item of this activation was not committed. To be called once the activation
    /// has ended and got all its verdicts; the lanes remember failed ones until then.
    pub fn forget(&self, activation: u64) {
        self.0.queue.forget(activation);
    }

    /// Returns of how many activations the lanes remember that an item was not committed.
    pub fn failed(&self) -> usize {
        self.0.queue.failed()
    }

    /// Waits until no commit that touched `shard` is unclear; read the epoch and reload after it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled(&self, shard: ShardId) {
        self.0.queue.settled(shard).await;
    }

    /// Returns how many items wait.
    pub fn depth(&self) -> usize {
        self.0.queue.depth()
    }

    /// Says whether so much waits that who need not add to it should not.
    pub fn is_pressed(&self) -> bool {
        self.0.queue.is_pressed()
    }

    /// Stores what is queued, then ends the lanes; items submitted later fail as `Unavailable`.
    ///
    /// Shards whose last commit is unclear, and whose epoch the database does not let us raise now,
    /// are given up.
    ///
    /// # Cancel safety
    /// The lanes stop even if nobody waits for it.
    pub async fn stop(&self) {
        self.0.queue.close();
        let tasks =
            std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a lane ended early");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}
