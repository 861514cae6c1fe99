//! The `replies` table: outcomes of calls, kept so that a repeat finds them (architecture D5).

use std::{sync::Arc, time::Duration};

use super::{
    Connection, Sql, StoreError, Value,
    entities::Place,
    lane::Write,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Missing, Rank, Statement,
    },
};
use crate::id::CallId;

/// The outcome of a call, to store.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The call.
    pub id: CallId,
    /// The hash of method and arguments: a key used again with others is found out.
    pub hash: u64,
    /// Whether the handler returned `Ok`.
    pub ok: bool,
    /// The encoded outcome.
    pub outcome: Arc<[u8]>,
    /// How long a repeat finds it.
    pub keep: Duration,
}

/// Stores a reply unless the call has one.
pub static STORE: Statement = Statement::new(
    "store reply",
    Rank::REPLIES,
    "INSERT INTO replies (kind, entity, id, shard, hash, ok, outcome, expires_at)",
    &[Text, Text, Blob, Int, Int, Int, Blob, Time],
    "ON CONFLICT (id, kind, entity) DO NOTHING",
)
.key(&[2, 0, 1], "id, kind, entity")
.missing(Missing::Conflict);

/// Returns the write that stores `reply`; a conflict means that the call was done before.
pub fn store(place: &Place, reply: Reply) -> Write {
    Write::Row {
        statement: &STORE,
        values: vec![
            (&place.kind).into(),
            (&place.id).into(),
            reply.id.into(),
            place.shard.into(),
            Value::Int(reply.hash.cast_signed()),
            reply.ok.into(),
            reply.outcome.into(),
            Value::from_now(reply.keep),
        ],
    }
}

/// A stored outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplyRow {
    /// The hash of method and arguments.
    pub hash: u64,
    /// Whether the handler returned `Ok`.
    pub ok: bool,
    /// The encoded outcome.
    pub outcome: Vec<u8>,
}

const FIND: Sql =
    Sql::same("SELECT hash, ok, outcome FROM replies WHERE id = $1 AND kind = $2 AND entity = $3");

/// Returns the outcome of a call; `None` if there is none. One past its time is returned until it
/// is deleted, since its row still refuses another.
///
/// # Errors
/// When the statement fails.
pub async fn find(
    c: &mut Connection,
    place: &Place,
    id: CallId,
) -> Result<Option<ReplyRow>, StoreError> {
    let values = vec![id.into(), (&place.kind).into(), (&place.id).into()];
    let Some(row) = c.query_one(&FIND, values).await? else {
        return Ok(None);
    };
    Ok(Some(ReplyRow {
        hash: row.int(0)?.cast_unsigned(),
        ok: row.bool(1)?,
        outcome: row.blob(2)?,
    }))
}

// Postgres goes to the rows it found and locked: joined by key, a plan made without knowing the
// limit would read the whole table.
const DELETE_EXPIRED: Sql = Sql {
    sqlite: "DELETE FROM replies WHERE (id, kind, entity) IN
               (SELECT id, kind, entity FROM replies WHERE expires_at <= $1
                ORDER BY expires_at LIMIT $2)",
    postgres: "DELETE FROM replies WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM replies WHERE expires_at <= actor_now() + $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
};

/// Deletes at most `limit` outcomes past their time; returns how many.
///
/// # Errors
/// When the statement fails.
pub async fn delete_expired(c: &mut Connection, limit: u32) -> Result<u64, StoreError> {
    c.execute(&DELETE_EXPIRED, vec![Value::NOW, limit.into()])
        .await
}
