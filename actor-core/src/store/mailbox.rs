//! The `mailbox` table: stored messages and timers (architecture D5, D7, D10).
//!
//! Owners change rows through the lane, which fences them: [`insert`], [`delete`],
//! [`count_attempt`], [`record_failure`]. The functions over a connection read, see `reading`.

mod reading;

use std::{sync::Arc, time::Duration};

pub use self::reading::{
    Backlog, COUNTED_MAX, Message, Overdue, Stored, Unreadable, backlog, last_seq, numbered,
    of_entity, overdue, ready, timers,
};

use super::{
    Value,
    entities::Place,
    lane::Write,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Missing, Rank, Statement,
    },
};
use crate::{codec::Codec, id::CallId};

/// A message to store.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The identity of the message; storing it twice is a conflict.
    pub id: CallId,
    /// The method's stable wire name.
    pub method: Arc<str>,
    /// How the arguments are encoded.
    pub codec: Codec,
    /// The encoded arguments.
    pub args: Arc<[u8]>,
    /// The encoded request context.
    pub context: Arc<[u8]>,
    /// When it is due; `None` for at once, in order.
    pub due: Option<Due>,
    /// After which time it is dropped instead of run.
    pub expires: Option<Duration>,
}

/// When a timer is due, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// This long after the commit.
    After(Duration),
    /// At this time, in milliseconds since 1970.
    At(i64),
}

impl From<Due> for Value {
    fn from(due: Due) -> Self {
        match due {
            Due::After(after) => Self::from_now(after),
            Due::At(at) => Self::Int(at),
        }
    }
}

/// Stores a message and returns its number. One that is stored already under the same id is left as
/// it is and has no number: that is what its sender wanted.
pub static INSERT: Statement = Statement::new(
    "store message",
    Rank::MAILBOX,
    "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, due_at,
       expires_at, created_at)",
    &[
        Int, Text, Text, Blob, Text, Text, Blob, Blob, Time, Time, Time,
    ],
    "ON CONFLICT (id) DO NOTHING",
)
.key(&[3], "id")
.assigned("seq");

/// Returns the write that stores `message` for the entity at `place`. The verdict carries its
/// `seq`.
pub fn insert(place: &Place, message: NewMessage) -> Write {
    Write::Row {
        statement: &INSERT,
        values: vec![
            place.shard.into(),
            (&place.kind).into(),
            (&place.id).into(),
            message.id.into(),
            message.method.into(),
            codec_name(message.codec).into(),
            message.args.into(),
            message.context.into(),
            message.due.into(),
            message.expires.map(Value::from_now).into(),
            Value::NOW,
        ],
    }
}

/// Deletes a message; its handling commits with it, so this is what makes it happen once.
pub static DELETE: Statement = Statement::new(
    "delete message",
    Rank::MAILBOX_DELETES,
    "DELETE FROM mailbox WHERE seq IN (",
    &[Int],
    ")",
)
.key(&[0], "seq")
.missing(Missing::Conflict);

/// Returns the write that deletes a message; a conflict means that it was handled before.
pub fn delete(seq: i64) -> Write {
    row(&DELETE, vec![seq.into()])
}

/// Counts an attempt at a message.
pub static COUNT_ATTEMPT: Statement = Statement::new(
    "count attempt",
    Rank::MAILBOX,
    "UPDATE mailbox SET attempts = attempts + 1 WHERE seq IN (",
    &[Int],
    ")",
)
.key(&[0], "seq")
.missing(Missing::Conflict);

/// Returns the write that counts an attempt, for suspect messages before they run.
pub fn count_attempt(seq: i64) -> Write {
    row(&COUNT_ATTEMPT, vec![seq.into()])
}

/// Records why the last attempt at a message failed.
pub static RECORD_FAILURE: Statement = Statement::new(
    "record failure",
    Rank::MAILBOX,
    "UPDATE mailbox SET attempts = new.column2, last_error = new.column3 FROM (",
    &[Int, Int, Text],
    ") AS new WHERE mailbox.seq = new.column1",
)
.key(&[0], "seq");

/// Returns the write that records the `attempts`-th failure of a message.
pub fn record_failure(seq: i64, attempts: u32, error: &str) -> Write {
    row(
        &RECORD_FAILURE,
        vec![seq.into(), attempts.into(), Value::remark(error)],
    )
}

fn row(statement: &'static Statement, values: Vec<Value>) -> Write {
    Write::Row { statement, values }
}

/// Returns the word a row stores for `codec`.
pub fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Msgpack => "msgpack",
        Codec::Json => "json",
    }
}

/// Reads the word a row stores for a codec; `None` for one of a newer version.
pub fn parse_codec(name: &str) -> Option<Codec> {
    match name {
        "msgpack" => Some(Codec::Msgpack),
        "json" => Some(Codec::Json),
        _ => None,
    }
}
