//! What a lane is given and what it answers.

use std::{fmt, sync::Arc};

use crate::{
    id::{Epoch, ShardId},
    store::{StoreError, statement::Statement, value::Value},
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

impl Write {
    /// Returns about how many bytes the write takes, to bound what is in flight.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Row { values, .. } => values.iter().map(Value::size).sum(),
            Self::Event {
                topic, name, data, ..
            } => topic.len() + name.len() + data.len(),
        }
    }

    /// Says whether it is an event.
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

/// The activation of items that come from none: what becomes of one of them says nothing about the
/// others, and nothing is remembered of it.
pub const NO_ACTIVATION: u64 = 0;

/// Writes that are stored all or not at all, and whom to tell.
pub struct Item {
    /// The shard that fences the writes.
    pub shard: ShardId,
    /// The epoch under which they were decided.
    pub epoch: Epoch,
    /// The activation they come from, unique on this node, or [`NO_ACTIVATION`].
    pub activation: u64,
    /// The number of the item within its activation, for traces.
    pub sequence: u64,
    /// What to write.
    pub writes: Vec<Write>,
    /// Is told once, on the lane's task, in item order. It must be quick and must not block.
    ///
    /// When the queue is full or closed it is called from inside
    /// [`Lanes::submit`](super::Lanes::submit). A panic in it is caught and logged.
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
    /// Nothing stored: this write met a row that is already there, or a newer one, or none.
    Conflict {
        /// The index of the write.
        write: usize,
    },
    /// Nothing stored: the shard is not owned under this epoch any more.
    Fenced,
    /// Nothing stored.
    Failed(StoreError),
    /// Stored or not, nobody knows. The shard gets a new epoch; reload after
    /// [`Lanes::settled`](super::Lanes::settled).
    Unclear(StoreError),
    /// Nothing stored: an earlier item of this activation was not committed.
    Refused,
}

impl Verdict {
    /// Says whether the item was stored.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }

    /// Returns the word for it in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Committed(_) => "committed",
            Self::Conflict { .. } => "conflict",
            Self::Fenced => "fenced",
            Self::Failed(_) => "failed",
            Self::Unclear(_) => "unclear",
            Self::Refused => "refused",
        }
    }
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
