//! The `entities` table: the state of each durable entity.

use std::sync::Arc;

use super::{
    Connection, Sql, StoreError, Value,
    lane::Write,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Merge, Missing, Rank, Statement,
    },
};
use crate::id::{EntityKey, ShardId};

/// Where an entity's rows are; made once an activation, so that its texts are shared by all its
/// writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stable wire name of the kind.
    pub kind: Arc<str>,
    /// The id within the kind.
    pub id: Arc<str>,
    /// The shard.
    pub shard: ShardId,
}

impl Place {
    /// Returns the place of an entity.
    pub fn new(key: &EntityKey, shard: ShardId) -> Self {
        Self {
            kind: key.kind.into(),
            id: key.id.as_str().into(),
            shard,
        }
    }
}

/// The state of an entity to store.
#[derive(Clone, Debug)]
pub struct State {
    /// The version this write makes: one more than the last, from 1.
    pub version: u64,
    /// The version it was made from; 0 when there was none. A row of another version is a conflict.
    pub base: u64,
    /// The version of the kind's state type.
    pub shape: u32,
    /// The encoded state.
    pub state: Arc<[u8]>,
}

/// Stores a state if the row still has the version the state was made from.
pub static STORE: Statement = Statement::new(
    "store entity",
    Rank::ENTITIES,
    "INSERT INTO entities (kind, id, shard, version, base, shape, state, updated_at)",
    &[Text, Text, Int, Int, Int, Int, Blob, Time],
    "ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, base = excluded.base,
       shape = excluded.shape, state = excluded.state, updated_at = excluded.updated_at
     WHERE entities.version = excluded.base",
)
.key(&[0, 1], "kind, id")
.missing(Missing::Conflict)
.merge(Merge::Chain {
    version: 3,
    base: 4,
});

/// Returns the write that stores `state`; a conflict means that it was made from another version.
pub fn store(place: &Place, state: State) -> Write {
    let count = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    Write::Row {
        statement: &STORE,
        values: vec![
            (&place.kind).into(),
            (&place.id).into(),
            place.shard.into(),
            count(state.version),
            count(state.base),
            state.shape.into(),
            state.state.into(),
            Value::NOW,
        ],
    }
}

/// A stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateRow {
    /// How many writes made it.
    pub version: u64,
    /// The version of the kind's state type.
    pub shape: u32,
    /// The encoded state.
    pub state: Vec<u8>,
    /// When it was stored, in milliseconds since 1970.
    pub updated_at: i64,
}

const LOAD: Sql =
    Sql::same("SELECT version, shape, state, updated_at FROM entities WHERE kind = $1 AND id = $2");

/// Returns the state of an entity; `None` if it never stored one.
///
/// # Errors
/// When the statement fails.
pub async fn load(c: &mut Connection, place: &Place) -> Result<Option<StateRow>, StoreError> {
    let values = vec![(&place.kind).into(), (&place.id).into()];
    let Some(row) = c.query_one(&LOAD, values).await? else {
        return Ok(None);
    };
    Ok(Some(StateRow {
        version: row.counter(0)?,
        shape: row.small(1)?,
        state: row.blob(2)?,
        updated_at: row.int(3)?,
    }))
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The id within the kind.
    pub id: String,
    /// The shard.
    pub shard: ShardId,
    /// How many writes made the state.
    pub version: u64,
    /// How many bytes the state takes.
    pub bytes: u64,
    /// When it was stored, in milliseconds since 1970.
    pub updated_at: i64,
}

const LIST: Sql = Sql::same(
    "SELECT id, shard, version, length(state), updated_at FROM entities
     WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3",
);

/// Returns entities of a kind in the order of their ids, at most `limit`, from the one after
/// `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    c: &mut Connection,
    kind: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let rows = c
        .query(&LIST, vec![kind.into(), after.into(), limit.into()])
        .await?;
    let listed = rows.iter().map(|row| {
        Ok(Listed {
            id: row.text(0)?,
            shard: row.shard(1)?,
            version: row.counter(2)?,
            bytes: row.counter(3)?,
            updated_at: row.int(4)?,
        })
    });
    listed.collect()
}
