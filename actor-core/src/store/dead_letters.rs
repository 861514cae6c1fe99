//! The `dead_letters` table: messages that were given up, with their bytes and what happened.

use std::time::Duration;

use super::{
    Connection, Row, Sql, StoreError, Value,
    lane::Write,
    statement::{
        ColumnType::{Int, Text, Time},
        Rank, Statement,
    },
};
use crate::id::{CallId, ShardId};

/// Copies a message to the dead letters.
pub static BURY: Statement = Statement::new(
    "bury message",
    Rank::DEAD_LETTERS,
    "INSERT INTO dead_letters (what, shard, kind, entity, id, method, codec, args, context,
       due_at, expires_at, attempts, error, created_at, died_at)
     SELECT new.column2, shard, kind, entity, id, method, codec, args, context,
       due_at, expires_at, attempts, new.column3, created_at, new.column4 FROM (",
    &[Int, Text, Text, Time],
    ") AS new JOIN mailbox ON mailbox.seq = new.column1 WHERE true
     ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, error = excluded.error,
       died_at = excluded.died_at",
)
.key(&[0], "seq");

/// Returns the writes that move a message to the dead letters, through the owner's lane.
pub fn bury(seq: i64, error: &str) -> [Write; 2] {
    let error = Value::remark(error);
    let values = vec![seq.into(), "message".into(), error, Value::NOW];
    let copy = Write::Row {
        statement: &BURY,
        values,
    };
    [copy, super::mailbox::delete(seq)]
}

/// A message that was given up.
///
/// It may have been given up because a column does not hold what it is for. Such a letter is shown
/// as far as possible: a text that is none as its bytes, a number that is none as 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The number among the dead letters.
    pub seq: i64,
    /// What it was, such as `message`.
    pub what: String,
    /// The shard of the entity.
    pub shard: ShardId,
    /// The entity's kind.
    pub kind: String,
    /// The entity's id.
    pub entity: String,
    /// The identity of the message; `None` if what is stored is none.
    pub id: Option<CallId>,
    /// The method's stable wire name.
    pub method: String,
    /// How the arguments are encoded.
    pub codec: String,
    /// The encoded arguments.
    pub args: Vec<u8>,
    /// How often it was attempted.
    pub attempts: u32,
    /// Why it was given up.
    pub error: String,
    /// When, in milliseconds since 1970.
    pub died_at: i64,
}

const LIST: Sql = Sql::same(
    "SELECT seq, what, shard, kind, entity, id, method, codec, args, attempts, error, died_at
     FROM dead_letters WHERE seq > $1 ORDER BY seq LIMIT $2",
);

/// Returns dead letters in the order of their numbers, at most `limit`, from the one after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    c: &mut Connection,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = c.query(&LIST, vec![after.into(), limit.into()]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        seq: row.int(0)?,
        what: row.shown(1)?,
        shard: row.shard(2).unwrap_or(ShardId(0)),
        kind: row.shown(3)?,
        entity: row.shown(4)?,
        id: row.call_id(5).ok(),
        method: row.shown(6)?,
        codec: row.shown(7)?,
        args: row.raw(8)?,
        attempts: row.small(9).unwrap_or(0),
        error: row.shown(10)?,
        died_at: row.int(11).unwrap_or(0),
    })
}

/// Where a replayed message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// The shard whose owner should look.
    pub shard: ShardId,
    /// The message's new number.
    pub seq: i64,
}

const REPLAY: Sql = Sql {
    sqlite:
        "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, created_at)
             SELECT shard, kind, entity, id, method, codec, args, context, $2
             FROM dead_letters WHERE seq = $1 AND what = 'message'
             ON CONFLICT (id) DO NOTHING RETURNING shard, seq",
    postgres: "INSERT INTO mailbox
                 (shard, kind, entity, id, method, codec, args, context, created_at)
               SELECT shard, kind, entity, id, method, codec, args, context,
                 actor_now() + $2
               FROM dead_letters WHERE seq = $1 AND what = 'message'
               ON CONFLICT (id) DO NOTHING RETURNING shard, seq",
};

const DELETE: Sql = Sql::same("DELETE FROM dead_letters WHERE seq = $1");

/// Puts a dead message back at the end of its mailbox, ready and not yet attempted; `None` if there
/// is no such dead message. Must run inside a transaction.
///
/// # Errors
/// When a statement fails.
pub async fn replay(c: &mut Connection, seq: i64) -> Result<Option<Replayed>, StoreError> {
    let Some(row) = c.query_one(&REPLAY, vec![seq.into(), Value::NOW]).await? else {
        return Ok(None);
    };
    c.execute(&DELETE, vec![seq.into()]).await?;
    Ok(Some(Replayed {
        shard: row.shard(0)?,
        seq: row.int(1)?,
    }))
}

/// Deletes a dead letter for good; says whether it was there.
///
/// # Errors
/// When the statement fails.
pub async fn discard(c: &mut Connection, seq: i64) -> Result<bool, StoreError> {
    Ok(c.execute(&DELETE, vec![seq.into()]).await? > 0)
}

const PRUNE: Sql = Sql {
    sqlite: "DELETE FROM dead_letters WHERE seq IN
               (SELECT seq FROM dead_letters WHERE died_at <= $1 ORDER BY died_at LIMIT $2)",
    postgres: "DELETE FROM dead_letters WHERE seq = ANY(ARRAY(SELECT seq FROM dead_letters
                 WHERE died_at <= actor_now() + $1 ORDER BY died_at LIMIT $2))",
};

/// Deletes at most `limit` dead letters older than `age`; returns how many.
///
/// # Errors
/// When the statement fails.
pub async fn prune(c: &mut Connection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    c.execute(&PRUNE, vec![Value::ago(age), limit.into()]).await
}

const COUNT: Sql = Sql::same("SELECT COUNT(*) FROM dead_letters");

/// Returns how many dead letters there are.
///
/// # Errors
/// When the statement fails.
pub async fn count(c: &mut Connection) -> Result<u64, StoreError> {
    match c.query_one(&COUNT, vec![]).await? {
        Some(row) => row.counter(0),
        None => Ok(0),
    }
}
