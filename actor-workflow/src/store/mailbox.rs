//! The mailbox row of a run: while it is there the run must make progress, at once or at its time.
//!
//! A run that is neither over, paused nor stuck has exactly one; its id follows from the run's, so
//! a second one is a conflict. A sleep moves it to a later time, the end deletes it; the node's
//! polls, timers and sweeps find it like any stored message.

use std::{sync::Arc, time::Duration};

use actor_core::{
    codec::Codec,
    id::{CallId, EntityId},
    mailbox::{Due, MailboxRow, StoredMessage},
    store::{
        Connection, Sql, StoreError, Value,
        entities::Place,
        lane::Write,
        statement::{
            ColumnType::{Int, Time},
            Missing, Rank, Statement,
        },
    },
};

/// The method of the row, which no caller can name.
pub const METHOD: &str = "go-on";

/// The row as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Its number.
    pub seq: i64,
    /// How long until it is due; zero when it is.
    pub due_in: Duration,
    /// How often it failed, or began while its owner died.
    pub attempts: u32,
}

/// Returns the id of a run's row.
pub fn id(place: &Place) -> CallId {
    CallId::from_key("the run goes on").within(&place.kind, &place.id)
}

/// Returns the row as a message that is due after `delay`.
pub fn message(place: &Place, delay: Duration) -> StoredMessage {
    StoredMessage {
        kind: place.kind.clone(),
        id: EntityId::from(&*place.id),
        message: id(place),
        method: METHOD.into(),
        codec: Codec::Msgpack,
        args: Arc::default(),
        request: None,
        due: (!delay.is_zero()).then_some(Due::After(delay)),
        expires: None,
        recall: None,
    }
}

/// Returns the row for the timers of the node.
pub fn timer(place: &Place, seq: i64, due_in: Duration) -> MailboxRow {
    MailboxRow {
        seq,
        timer: !due_in.is_zero(),
        due_in,
        expires: None,
        attempts: 0,
        message: message(place, due_in),
    }
}

/// Moves a run's row to another time and forgets its attempts.
pub static MOVE: Statement = Statement::new(
    "move run",
    Rank::MAILBOX,
    "UPDATE mailbox SET due_at = new.column2, attempts = 0, last_error = NULL FROM (",
    &[Int, Time],
    ") AS new WHERE mailbox.seq = new.column1",
)
.key(&[0], "seq")
.missing(Missing::Conflict);

/// Returns the write that makes the row due `after` its commit, or at once and in order.
pub fn due(seq: i64, after: Option<Duration>) -> Write {
    Write::Row {
        statement: &MOVE,
        values: vec![seq.into(), after.map(Value::from_now).into()],
    }
}

const LOAD: Sql = Sql {
    sqlite: "SELECT seq, attempts, MAX(COALESCE(due_at - $2, 0), 0) FROM mailbox WHERE id = $1",
    postgres: "SELECT seq, attempts, GREATEST(COALESCE(due_at - (actor_now() + $2), 0), 0)
               FROM mailbox WHERE id = $1",
};

/// Returns a run's row; `None` if the run rests.
///
/// # Errors
/// When the statement fails.
pub async fn load(c: &mut Connection, place: &Place) -> Result<Option<Drive>, StoreError> {
    let Some(row) = c
        .query_one(&LOAD, vec![id(place).into(), Value::NOW])
        .await?
    else {
        return Ok(None);
    };
    Ok(Some(Drive {
        seq: row.int(0)?,
        attempts: row.small(1)?,
        due_in: Duration::from_millis(row.counter(2)?),
    }))
}
