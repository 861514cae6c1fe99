//! Reading stored messages: what is ready, what is due soon, what waits too long.

use std::time::Duration;

use crate::{
    id::{CallId, ShardId},
    store::{
        Connection, Row, Sql, StoreError, StoreErrorKind, Value, entities::Place,
        ownership::list_of,
    },
};

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The number: messages of an entity are handled in this order.
    pub seq: i64,
    /// The shard of the entity.
    pub shard: ShardId,
    /// The entity's kind.
    pub kind: String,
    /// The entity's id.
    pub entity: String,
    /// The identity of the message.
    pub id: CallId,
    /// The method's stable wire name.
    pub method: String,
    /// How the arguments are encoded, as stored; see [`parse_codec`](super::parse_codec).
    pub codec: String,
    /// The encoded arguments.
    pub args: Vec<u8>,
    /// The encoded request context.
    pub context: Vec<u8>,
    /// When it is due, in milliseconds since 1970; `None` for a message that is no timer.
    pub due_at: Option<i64>,
    /// When it is dropped instead of run, in milliseconds since 1970.
    pub expires_at: Option<i64>,
    /// How long until it is due; zero when it is, `None` for a message that is no timer.
    pub due_in: Option<Duration>,
    /// How long until it is dropped instead of run; zero when its time has passed.
    pub expires_in: Option<Duration>,
    /// How often it was attempted, as far as counted.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A stored message with a column that does not hold what it is for. Enough is known to bury it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its number.
    pub seq: i64,
    /// The shard; `None` if that is what cannot be read.
    pub shard: Option<ShardId>,
    /// The kind and id it was for, as far as they are texts.
    pub target: Option<(String, String)>,
    /// Which column does not hold what.
    pub why: String,
}

/// A row of the mailbox: one that cannot be read does not keep others from being read.
pub type Stored = Result<Message, Unreadable>;

/// The columns of [`Message`] in [`read`]'s order; `$1` is now. A time before 1970 counts as 1970:
/// a difference to it must not overflow.
macro_rules! select {
    ($now:literal, $rest:literal) => {
        concat!(
            "SELECT seq, shard, kind, entity, id, method, codec, args, context, attempts,
               last_error, due_at, CASE WHEN due_at < 0 THEN 0 ELSE due_at - ",
            $now,
            " END, expires_at, CASE WHEN expires_at < 0 THEN 0 ELSE expires_at - ",
            $now,
            " END FROM mailbox ",
            $rest
        )
    };
}

fn read(row: &Row) -> Result<Stored, StoreError> {
    match message(row) {
        Ok(message) => Ok(Ok(message)),
        Err(error) if error.kind() == StoreErrorKind::Unreadable => Ok(Err(Unreadable {
            // The key of the table: whatever else a row holds, this is a number.
            seq: row.int(0)?,
            shard: row.shard(1).ok(),
            target: row.text(2).ok().zip(row.text(3).ok()),
            why: error.to_string(),
        })),
        Err(error) => Err(error),
    }
}

fn message(row: &Row) -> Result<Message, StoreError> {
    let positive = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    Ok(Message {
        seq: row.int(0)?,
        shard: row.shard(1)?,
        kind: row.text(2)?,
        entity: row.text(3)?,
        id: row.call_id(4)?,
        method: row.text(5)?,
        codec: row.text(6)?,
        args: row.blob(7)?,
        context: row.blob(8)?,
        attempts: row.small(9)?,
        last_error: row.text_or_null(10)?,
        due_at: row.int_or_null(11)?,
        due_in: row.int_or_null(12)?.map(positive),
        expires_at: row.int_or_null(13)?,
        expires_in: row.int_or_null(14)?.map(positive),
    })
}

const READY: Sql = Sql {
    sqlite: select!(
        "$1",
        "INDEXED BY mailbox_ready WHERE due_at IS NULL AND seq > $2
           AND shard IN (SELECT value FROM json_each($3))
         ORDER BY seq LIMIT $4"
    ),
    postgres: select!(
        "(actor_now() + $1)",
        "WHERE due_at IS NULL AND seq > $2
           AND shard IN (SELECT value::bigint FROM json_array_elements_text($3::json))
         ORDER BY seq LIMIT $4"
    ),
};

/// Returns messages of these shards that are not timers, in the order of their numbers, at most
/// `limit`, from the one after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn ready(
    c: &mut Connection,
    shards: &[ShardId],
    after: i64,
    limit: u32,
) -> Result<Vec<Stored>, StoreError> {
    let values = vec![Value::NOW, after.into(), list_of(shards), limit.into()];
    c.query(&READY, values).await?.iter().map(read).collect()
}

const TIMERS: Sql = Sql {
    sqlite: select!(
        "$1",
        "WHERE due_at <= $2 AND shard IN (SELECT value FROM json_each($3))
         ORDER BY due_at, seq LIMIT $4"
    ),
    postgres: select!(
        "(actor_now() + $1)",
        "WHERE due_at <= actor_now() + $2
           AND shard IN (SELECT value::bigint FROM json_array_elements_text($3::json))
         ORDER BY due_at, seq LIMIT $4"
    ),
};

/// Returns timers of these shards that are due within `horizon`, the earliest first, at most
/// `limit`.
///
/// # Errors
/// When the statement fails.
pub async fn timers(
    c: &mut Connection,
    shards: &[ShardId],
    horizon: Duration,
    limit: u32,
) -> Result<Vec<Stored>, StoreError> {
    let values = vec![
        Value::NOW,
        Value::from_now(horizon),
        list_of(shards),
        limit.into(),
    ];
    c.query(&TIMERS, values).await?.iter().map(read).collect()
}

const OF_ENTITY: Sql = Sql {
    sqlite: select!(
        "$1",
        "WHERE kind = $2 AND entity = $3 AND seq > $4 AND due_at IS NULL ORDER BY seq LIMIT $5"
    ),
    postgres: select!(
        "(actor_now() + $1)",
        "WHERE kind = $2 AND entity = $3 AND seq > $4 AND due_at IS NULL ORDER BY seq LIMIT $5"
    ),
};

/// Returns an entity's messages that are not timers, in order, at most `limit`, from the one after
/// `after`.
///
/// # Errors
/// When the statement fails.
pub async fn of_entity(
    c: &mut Connection,
    place: &Place,
    after: i64,
    limit: u32,
) -> Result<Vec<Stored>, StoreError> {
    let (kind, id) = ((&place.kind).into(), (&place.id).into());
    let values = vec![Value::NOW, kind, id, after.into(), limit.into()];
    c.query(&OF_ENTITY, values)
        .await?
        .iter()
        .map(read)
        .collect()
}

const NUMBERED: Sql = Sql {
    sqlite: select!(
        "$1",
        "WHERE seq IN (SELECT value FROM json_each($2)) ORDER BY seq"
    ),
    postgres: select!(
        "(actor_now() + $1)",
        "WHERE seq IN (SELECT value::bigint FROM json_array_elements_text($2::json)) ORDER BY seq"
    ),
};

/// Returns the messages with these numbers that are still there, in order.
///
/// # Errors
/// When the statement fails.
pub async fn numbered(c: &mut Connection, numbers: &[i64]) -> Result<Vec<Stored>, StoreError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let list = serde_json::to_string(numbers).expect("numbers can be written");
    let values = vec![Value::NOW, list.into()];
    c.query(&NUMBERED, values).await?.iter().map(read).collect()
}

/// A message that has been due for long, as far as it takes to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overdue {
    /// Its number.
    pub seq: i64,
    /// The kind and id it is for, as far as they are texts.
    pub target: Option<(String, String)>,
}

// Two index ranges instead of one look at every timer there is.
const OVERDUE: Sql = Sql {
    sqlite: "SELECT seq, kind, entity FROM mailbox
             WHERE seq IN (SELECT seq FROM mailbox INDEXED BY mailbox_ready
                             WHERE due_at IS NULL AND created_at <= $1
                           UNION ALL SELECT seq FROM mailbox WHERE due_at <= $1)
               AND shard IN (SELECT value FROM json_each($2))
             ORDER BY seq LIMIT $3",
    postgres: "SELECT seq, kind, entity FROM mailbox
               WHERE seq IN (SELECT seq FROM mailbox
                               WHERE due_at IS NULL AND created_at <= actor_now() + $1
                             UNION ALL SELECT seq FROM mailbox WHERE due_at <= actor_now() + $1)
                 AND shard IN (SELECT value::bigint FROM json_array_elements_text($2::json))
               ORDER BY seq LIMIT $3",
};

/// Returns messages and timers of these shards that have been due for at least `age`, at most
/// `limit`: each must be known to its owner, or it is stuck (architecture D16).
///
/// # Errors
/// When the statement fails.
pub async fn overdue(
    c: &mut Connection,
    shards: &[ShardId],
    age: Duration,
    limit: u32,
) -> Result<Vec<Overdue>, StoreError> {
    let values = vec![Value::ago(age), list_of(shards), limit.into()];
    let rows = c.query(&OVERDUE, values).await?;
    let read = rows.iter().map(|row| {
        Ok(Overdue {
            seq: row.int(0)?,
            target: row.text(1).ok().zip(row.text(2).ok()),
        })
    });
    read.collect()
}

const LAST_SEQ: Sql = Sql::same("SELECT COALESCE(MAX(seq), 0) FROM mailbox");

/// Returns the highest number in the mailbox; 0 if it is empty.
///
/// # Errors
/// When the statement fails.
pub async fn last_seq(c: &mut Connection) -> Result<i64, StoreError> {
    c.query_one(&LAST_SEQ, vec![])
        .await?
        .map_or(Ok(0), |row| row.int(0))
}

/// The most rows that are counted of each part of a backlog, and of each state of runs.
///
/// Counts are read all the time, so they must not cost more when there is more: at this many, "at
/// least" is all an operator needs.
pub const COUNTED_MAX: u32 = 100_000;

/// How much waits in the mailbox; see [`COUNTED_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// How many messages are due.
    pub due: u64,
    /// For how long the oldest of them has been.
    pub age: Duration,
    /// How many timers are not due yet.
    pub scheduled: u64,
}

// In the order of an index, so that no plan reads more than it counts. The oldest rows come first.
const BACKLOG: Sql = Sql {
    sqlite: "SELECT COUNT(*), CAST(COALESCE($1 - MAX(MIN(since), 0), 0) AS INTEGER),
               (SELECT COUNT(*) FROM (SELECT 1 FROM mailbox WHERE due_at > $1
                                      ORDER BY due_at, seq LIMIT $2))
             FROM (SELECT * FROM (SELECT created_at AS since FROM mailbox INDEXED BY mailbox_ready
                                  WHERE due_at IS NULL ORDER BY seq LIMIT $2)
                   UNION ALL
                   SELECT * FROM (SELECT due_at FROM mailbox WHERE due_at <= $1
                                  ORDER BY due_at, seq LIMIT $2))",
    postgres: "SELECT COUNT(*), COALESCE(actor_now() + $1
                 - CASE WHEN MIN(since) < 0 THEN 0 ELSE MIN(since) END, 0),
                 (SELECT COUNT(*) FROM (SELECT 1 FROM mailbox WHERE due_at > actor_now() + $1
                                        ORDER BY due_at, seq LIMIT $2) AS later)
               FROM ((SELECT created_at AS since FROM mailbox WHERE due_at IS NULL
                      ORDER BY seq LIMIT $2)
                     UNION ALL
                     (SELECT due_at FROM mailbox WHERE due_at <= actor_now() + $1
                      ORDER BY due_at, seq LIMIT $2)) AS due",
};

/// Returns how much waits in the mailboxes of all shards.
///
/// # Errors
/// When the statement fails.
pub async fn backlog(c: &mut Connection) -> Result<Backlog, StoreError> {
    let Some(row) = c
        .query_one(&BACKLOG, vec![Value::NOW, COUNTED_MAX.into()])
        .await?
    else {
        return Ok(Backlog::default());
    };
    Ok(Backlog {
        due: row.counter(0)?,
        age: Duration::from_millis(u64::try_from(row.int(1)?).unwrap_or(0)),
        scheduled: row.counter(2)?,
    })
}
