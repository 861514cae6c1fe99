//! Group commit: many entities' writes in one fenced transaction (architecture D2, D6).
//!
//! While one transaction is in flight the next batch gathers. Not here: what an item means; the host
//! builds items and acts on verdicts.

use std::{fmt, sync::Arc};

use super::{Store, StoreError, statement::Statement, value::Value};
use crate::{
    clock::{Clock, Rng},
    id::{Epoch, ShardId},
    shards::Shards,
};

/// One row to write, or one event to append to its topic.
#[derive(Clone, Debug)]
pub enum Write {
    /// One row of a statement; as many values as the statement has columns.
    Row {
        /// How rows of this kind are written.
        statement: &'static Statement,
        /// The row.
        values: Vec<Value>,
    },
    /// The next event of a topic; the topic begins with its first event.
    Event {
        /// The topic's name.
        topic: Arc<str>,
        /// The event's stable wire name.
        name: Arc<str>,
        /// The key within the topic, if the event has one.
        key: Option<Arc<str>>,
        /// The encoded event.
        data: Arc<[u8]>,
    },
}

/// Writes that are stored all or not at all, and whom to tell.
pub struct Item {
    /// The shard that fences the writes.
    pub shard: ShardId,
    /// The epoch under which they were decided.
    pub epoch: Epoch,
    /// The activation they come from, unique on this node.
    pub activation: u64,
    /// The number of the item within its activation, for traces.
    pub sequence: u64,
    /// What to write.
    pub writes: Vec<Write>,
    /// Is told once, on the lane's task, in item order. It must be quick and must not block.
    ///
    /// When the queue is full it is called from inside [`Lanes::submit`].
    pub done: Box<dyn FnOnce(Verdict) + Send>,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("shard", &self.shard)
            .field("epoch", &self.epoch)
            .field("activation", &self.activation)
            .field("sequence", &self.sequence)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

/// What became of an item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Stored. Holds, for writes the database numbers, the index of the write and its number: the
    /// `seq` of a row, the offset of an event.
    Committed(Vec<(usize, i64)>),
    /// Nothing stored: this write met a row that is already there, or a newer one.
    Conflict {
        /// The index of the write.
        write: usize,
    },
    /// Nothing stored: the shard is not owned under this epoch any more.
    Fenced,
    /// Nothing stored.
    Failed(StoreError),
    /// Stored or not, nobody knows. The shard gets a new epoch; reload after [`Lanes::settled`].
    Unclear(StoreError),
    /// Nothing stored: an earlier item of this activation was not committed.
    Refused,
}

/// An event that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announced {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The random number of this history of the topic; offsets of another one mean nothing here.
    pub epoch: i64,
    /// The place in the topic; the first event has 1, and there are no gaps.
    pub offset: i64,
    /// The event's stable wire name.
    pub name: Arc<str>,
    /// The key within the topic.
    pub key: Option<Arc<str>>,
    /// The encoded event.
    pub data: Arc<[u8]>,
}

/// Is told which events were committed, in order, after the verdicts of their items.
///
/// Events of a commit whose end was unclear are not announced; readers find them by their offsets.
pub type EventHook = Arc<dyn Fn(Vec<Announced>) + Send + Sync>;

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
    /// How many items may wait in a lane. Default: 8192. Above it an item fails as `Overloaded`.
    pub queue_items_max: usize,
    /// How many items a transaction takes. Default: 512.
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

/// The committer lanes of a node; SQLite has one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lanes {
    config: Arc<LaneConfig>,
}

impl Lanes {
    /// Starts the lanes' tasks.
    pub fn start(config: LaneConfig) -> Self {
        Self {
            config: Arc::new(config),
        }
    }

    /// Queues an item; never blocks. Items of one activation are stored in the order submitted.
    ///
    /// At the queue's bound the item's `done` is called here with `Failed` and
    /// [`StoreErrorKind::Overloaded`](super::StoreErrorKind::Overloaded), and later items of the
    /// activation are refused.
    pub fn submit(&self, item: Item) {
        let _ = &self.config;
        (item.done)(Verdict::Refused);
    }

    /// Forgets that an item of this activation was not committed. To be called once the activation
    /// has ended and got all its verdicts; the lanes remember failed ones until then.
    pub fn forget(&self, _activation: u64) {}

    /// Waits until no commit that touched `shard` is unclear; read the epoch and reload after it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn settled(&self, _shard: ShardId) {}

    /// Returns how many items wait.
    pub fn depth(&self) -> usize {
        0
    }

    /// Stores what is queued, then ends the lanes; items submitted later fail as `Unavailable`.
    pub async fn stop(&self) {}
}
