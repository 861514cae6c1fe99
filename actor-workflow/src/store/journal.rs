//! The `journal` table: what runs did, append only.

use std::time::Duration;

use actor_core::store::{
    Connection, Sql, StoreError, Value,
    entities::Place,
    lane::Write,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Missing, Rank, Statement,
    },
};

use crate::journal::Entry;

/// Appends an entry; one that is there already is a conflict.
pub static APPEND: Statement = Statement::new(
    "append to journal",
    Rank::JOURNAL,
    "INSERT INTO journal (kind, run, seq, shard, entry, at)",
    &[Text, Text, Int, Int, Blob, Time],
    "ON CONFLICT (kind, run, seq) DO NOTHING",
)
.key(&[0, 1, 2], "kind, run, seq")
.missing(Missing::Conflict);

/// Returns the write that appends the `seq`-th entry of a run, from 1.
pub fn append(place: &Place, seq: u32, entry: &Entry) -> Write {
    Write::Row {
        statement: &APPEND,
        values: vec![
            (&place.kind).into(),
            (&place.id).into(),
            seq.into(),
            place.shard.into(),
            entry.encode().into(),
            Value::NOW,
        ],
    }
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalRow {
    /// Its place in the journal, from 1.
    pub seq: u32,
    /// The entry as it is stored, or why it cannot be read.
    pub entry: Result<Vec<u8>, String>,
    /// When it was stored, in milliseconds since 1970.
    pub at: i64,
    /// The time since then.
    pub age: Duration,
}

const LOAD: Sql = Sql {
    sqlite: "SELECT seq, entry, at, MAX($4 - at, 0) FROM journal
             WHERE kind = $1 AND run = $2 AND seq > $3 ORDER BY seq LIMIT $5",
    postgres: "SELECT seq, entry, at, GREATEST(actor_now() + $4 - at, 0) FROM journal
               WHERE kind = $1 AND run = $2 AND seq > $3 ORDER BY seq LIMIT $5",
};

/// Returns a run's entries in order, at most `limit`, from the one after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn load(
    c: &mut Connection,
    kind: &str,
    id: &str,
    after: u32,
    limit: u32,
) -> Result<Vec<JournalRow>, StoreError> {
    let values = vec![
        kind.into(),
        id.into(),
        after.into(),
        Value::NOW,
        limit.into(),
    ];
    let rows = c.query(&LOAD, values).await?;
    let read = rows.iter().map(|row| {
        let stored = || Ok((row.blob(1)?, row.int(2)?, row.counter(3)?));
        let (entry, at, age) = match stored() {
            Ok((entry, at, age)) => (Ok(entry), at, age),
            Err::<_, StoreError>(error) => (Err(error.to_string()), 0, 0),
        };
        JournalRow {
            // One that has no place follows a gap: whoever replays it notices.
            seq: row.small(0).unwrap_or(u32::MAX),
            entry,
            at,
            age: Duration::from_millis(age),
        }
    });
    Ok(read.collect())
}
