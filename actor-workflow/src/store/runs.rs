//! The `runs` table: one row a run, with what the outside sees of it.

use std::{sync::Arc, time::Duration};

use actor_core::store::{
    Connection, Dialect, Row, Sql, StoreError, Value,
    entities::Place,
    lane::Write,
    mailbox::COUNTED_MAX,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Missing, Rank, Statement,
    },
};

/// Stores a new run; one that is there already is a conflict.
pub static INSERT: Statement = Statement::new(
    "start run",
    Rank::RUNS,
    "INSERT INTO runs (kind, id, shard, state, version, input, context, created_at, updated_at)",
    &[Text, Text, Int, Text, Int, Blob, Blob, Time, Time],
    "ON CONFLICT (kind, id) DO NOTHING",
)
.key(&[0, 1], "kind, id")
.missing(Missing::Conflict);

/// Returns the write that stores a new run in the state `running`.
pub fn insert(place: &Place, version: u32, input: Arc<[u8]>, context: Vec<u8>) -> Write {
    Write::Row {
        statement: &INSERT,
        values: vec![
            (&place.kind).into(),
            (&place.id).into(),
            place.shard.into(),
            "running".into(),
            version.into(),
            input.into(),
            context.into(),
            Value::NOW,
            Value::NOW,
        ],
    }
}

/// What changes in a run's row; everything is written each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The state, in the outside's words.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: Option<Arc<str>>,
    /// When it is woken at the latest, counted from the commit.
    pub wake_after: Option<Duration>,
    /// The output, in MessagePack.
    pub result: Option<Arc<[u8]>>,
    /// The failure, in MessagePack.
    pub error: Option<Arc<[u8]>>,
    /// Whether it is over.
    pub finished: bool,
}

/// Changes a run.
pub static UPDATE: Statement = Statement::new(
    "change run",
    Rank::RUNS,
    "UPDATE runs SET state = new.column3, reason = new.column4, wake_at = new.column5,
       result = new.column6, error = new.column7, finished_at = new.column8,
       updated_at = new.column9 FROM (",
    &[Text, Text, Text, Text, Time, Blob, Blob, Time, Time],
    ") AS new WHERE runs.kind = new.column1 AND runs.id = new.column2",
)
.key(&[0, 1], "kind, id")
.missing(Missing::Conflict);

/// Returns the write that changes a run.
pub fn update(place: &Place, change: Change) -> Write {
    let result: Option<Value> = change.result.map(Into::into);
    let error: Option<Value> = change.error.map(Into::into);
    let reason = change.reason.as_deref().map(Value::remark);
    Write::Row {
        statement: &UPDATE,
        values: vec![
            (&place.kind).into(),
            (&place.id).into(),
            change.state.into(),
            reason.unwrap_or(Value::Null),
            change.wake_after.map(Value::from_now).into(),
            result.unwrap_or(Value::Null),
            error.unwrap_or(Value::Null),
            if change.finished {
                Value::NOW
            } else {
                Value::Null
            },
            Value::NOW,
        ],
    }
}

/// A stored run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunRow {
    /// The state, in the outside's words.
    pub state: String,
    /// The version of the recipe it began with.
    pub version: u32,
    /// The input, in MessagePack.
    pub input: Vec<u8>,
    /// The request that started it, in MessagePack; empty if there was none.
    pub context: Vec<u8>,
    /// The output, in MessagePack.
    pub result: Option<Vec<u8>>,
    /// The failure, in MessagePack.
    pub error: Option<Vec<u8>>,
    /// Why it is in its state.
    pub reason: Option<String>,
}

const LOAD: Sql = Sql::same(
    "SELECT state, version, input, context, result, error, reason FROM runs
     WHERE kind = $1 AND id = $2",
);

/// Returns a run; `None` if it was never started.
///
/// # Errors
/// When the statement fails.
pub async fn load(c: &mut Connection, place: &Place) -> Result<Option<RunRow>, StoreError> {
    let values = vec![(&place.kind).into(), (&place.id).into()];
    let Some(row) = c.query_one(&LOAD, values).await? else {
        return Ok(None);
    };
    Ok(Some(RunRow {
        state: row.text(0)?,
        version: row.small(1)?,
        input: row.blob(2)?,
        context: row.blob(3)?,
        result: row.blob_or_null(4)?,
        error: row.blob_or_null(5)?,
        reason: row.text_or_null(6)?,
    }))
}

/// What stands for a state that cannot be read. No run is stored with it.
const UNREADABLE: &str = "unreadable";

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The kind.
    pub kind: String,
    /// The run's id.
    pub id: String,
    /// The state, in the outside's words.
    pub state: String,
    /// The version of the recipe it began with.
    pub version: u32,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// The newest entry of its journal, as it is stored.
    pub last_entry: Option<Vec<u8>>,
    /// When it was started, in milliseconds since 1970.
    pub created_at: i64,
    /// When its state last changed.
    pub updated_at: i64,
    /// When it is woken at the latest.
    pub wake_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

const LIST: Sql = Sql::same(
    "SELECT kind, id, state, version, reason,
       (SELECT entry FROM journal WHERE journal.kind = runs.kind AND journal.run = runs.id
        ORDER BY seq DESC LIMIT 1),
       created_at, updated_at, wake_at, finished_at
     FROM runs WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3",
);

const LIST_IN_STATE: Sql = Sql::same(
    "SELECT kind, id, state, version, reason,
       (SELECT entry FROM journal WHERE journal.kind = runs.kind AND journal.run = runs.id
        ORDER BY seq DESC LIMIT 1),
       created_at, updated_at, wake_at, finished_at
     FROM runs WHERE state = $4 AND kind = $1 AND id > $2 ORDER BY id LIMIT $3",
);

/// Returns runs of a kind, of one state if it is given, in the order of their ids, at most `limit`,
/// from the one after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    c: &mut Connection,
    kind: &str,
    state: Option<&str>,
    after: &str,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let mut values = vec![kind.into(), after.into(), limit.into()];
    let rows = match state {
        None => c.query(&LIST, values).await?,
        Some(state) => {
            values.push(state.into());
            c.query(&LIST_IN_STATE, values).await?
        }
    };
    let line = |row| listed(row).or_else(|error| unreadable(row, &error));
    rows.iter().map(line).collect()
}

/// Returns what can be shown of a run whose row does not hold what it should.
fn unreadable(row: &Row, error: &StoreError) -> Result<Listed, StoreError> {
    Ok(Listed {
        kind: row.shown(0)?,
        id: row.shown(1)?,
        state: UNREADABLE.to_owned(),
        version: row.small(3).unwrap_or(0),
        reason: Some(error.to_string()),
        last_entry: row.blob_or_null(5).unwrap_or(None),
        created_at: row.int(6).unwrap_or(0),
        updated_at: row.int(7).unwrap_or(0),
        wake_at: row.int_or_null(8).unwrap_or(None),
        finished_at: row.int_or_null(9).unwrap_or(None),
    })
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    Ok(Listed {
        kind: row.text(0)?,
        id: row.text(1)?,
        state: row.text(2)?,
        version: row.small(3)?,
        reason: row.text_or_null(4)?,
        last_entry: row.blob_or_null(5)?,
        created_at: row.int(6)?,
        updated_at: row.int(7)?,
        wake_at: row.int_or_null(8)?,
        finished_at: row.int_or_null(9)?,
    })
}

// From one state and kind to the next one by the index, so that PostgreSQL reads no more rows than
// it counts. Ranges instead of equality, because only the index of states has them in that order:
// with equality the planner may walk all runs by their key and filter.
const COUNTS: Sql = Sql {
    sqlite: "SELECT kind, state, MIN(COUNT(*), $1) FROM runs GROUP BY state, kind
             ORDER BY state, kind",
    postgres: "WITH RECURSIVE groups AS (
                 (SELECT state, kind FROM runs ORDER BY state, kind LIMIT 1)
                 UNION ALL
                 SELECT next.state, next.kind FROM groups CROSS JOIN LATERAL
                   (SELECT state, kind FROM runs WHERE (state, kind) > (groups.state, groups.kind)
                    ORDER BY state, kind LIMIT 1) AS next)
               SELECT kind, state, (SELECT COUNT(*) FROM
                 (SELECT 1 FROM runs WHERE (runs.state, runs.kind) >= (groups.state, groups.kind)
                    AND (runs.state, runs.kind) <= (groups.state, groups.kind)
                  ORDER BY runs.state, runs.kind, runs.id LIMIT $1) AS counted)
               FROM groups ORDER BY state, kind",
};

/// Returns how many runs of each kind are in each state: `(kind, state, count)`. At most
/// [`COUNTED_MAX`] of each are counted.
///
/// # Errors
/// When the statement fails.
pub async fn counts(c: &mut Connection) -> Result<Vec<(String, String, u64)>, StoreError> {
    let rows = c.query(&COUNTS, vec![COUNTED_MAX.into()]).await?;
    rows.iter()
        .map(|row| {
            let state = row.text(1).unwrap_or_else(|_| UNREADABLE.to_owned());
            Ok((row.shown(0)?, state, row.counter(2)?))
        })
        .collect()
}

// The states in which a run is not over; ranges as above.
const OPEN: Sql = Sql {
    sqlite: "SELECT state, MIN(COUNT(*), $1) FROM runs
             WHERE state IN ('running', 'suspended', 'compensating', 'paused', 'stuck')
             GROUP BY state",
    postgres: "SELECT open.state, COUNT(*) FROM
                 (VALUES ('running'), ('suspended'), ('compensating'), ('paused'), ('stuck'))
                   AS open (state)
                 CROSS JOIN LATERAL
                   (SELECT 1 FROM runs WHERE runs.state >= open.state AND runs.state <= open.state
                    ORDER BY runs.state, runs.kind, runs.id LIMIT $1) AS counted
               GROUP BY open.state",
};

/// Returns how many runs are in each state that is not the last one: `(state, count)`. At most
/// [`COUNTED_MAX`] of each are counted, and those that are over are not even looked at.
///
/// # Errors
/// When the statement fails.
pub async fn open(c: &mut Connection) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = c.query(&OPEN, vec![COUNTED_MAX.into()]).await?;
    rows.iter()
        .map(|row| Ok((row.text(0)?, row.counter(1)?)))
        .collect()
}

// On SQLite, where nobody writes between this and the next statement.
const PRUNE_JOURNAL: Sql = Sql::same(
    "DELETE FROM journal WHERE (kind, run) IN
       (SELECT kind, id FROM runs WHERE finished_at <= $1 ORDER BY finished_at, kind, id LIMIT $2)",
);

// On PostgreSQL all nodes prune: runs that another one is about to delete are left to it, and a
// journal goes in the statement of its run, or a later run of that id would find it. By addresses
// of rows, found by an index for each run: a join would be planned for any limit, and read the
// whole journal.
const PRUNE: Sql = Sql {
    sqlite: "DELETE FROM runs WHERE (kind, id) IN
               (SELECT kind, id FROM runs WHERE finished_at <= $1
                ORDER BY finished_at, kind, id LIMIT $2)",
    postgres: "WITH old AS MATERIALIZED
                 (SELECT ctid AS row, kind, id FROM runs WHERE finished_at <= actor_now() + $1
                  ORDER BY finished_at, kind, id LIMIT $2 FOR UPDATE SKIP LOCKED),
               entries AS (DELETE FROM journal WHERE ctid = ANY(ARRAY(
                 SELECT entry.row FROM old CROSS JOIN LATERAL
                   (SELECT journal.ctid AS row FROM journal
                    WHERE journal.kind = old.kind AND journal.run = old.id OFFSET 0) AS entry)))
               DELETE FROM runs WHERE ctid = ANY(ARRAY(SELECT old.row FROM old))",
};

/// Deletes at most `limit` runs that ended at least `age` ago, with their journals; returns how
/// many. What another node deletes at the same time is left to it.
///
/// # Errors
/// When a statement fails.
pub async fn prune(c: &mut Connection, age: Duration, limit: u32) -> Result<u64, StoreError> {
    let values = || vec![Value::ago(age), limit.into()];
    if c.dialect() == Dialect::Sqlite {
        c.execute(&PRUNE_JOURNAL, values()).await?;
    }
    c.execute(&PRUNE, values()).await
}
