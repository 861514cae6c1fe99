//! The `streams` and `events` tables: each topic's counter and its newest events (architecture
//! D18).

use std::sync::Arc;

use super::{
    Connection, Row, Sql, StoreError, Value,
    statement::{
        ColumnType::{Blob, Int, Text, Time},
        Missing, Rank, Statement,
    },
};

/// How many events of a topic are kept.
pub const EVENTS_KEPT: u32 = 1000;

/// Moves a topic's counter on by the number given, or begins it with that number.
pub(super) static ADVANCE: Statement = Statement::new(
    "advance stream",
    Rank::STREAMS,
    "INSERT INTO streams (topic, epoch, last_offset)",
    &[Text, Int, Int],
    "ON CONFLICT (topic) DO UPDATE SET last_offset = streams.last_offset + excluded.last_offset",
)
.key(&[0], "topic, epoch, last_offset");

/// Appends an event at its offset.
pub(super) static APPEND: Statement = Statement::new(
    "append event",
    Rank::EVENTS,
    "INSERT INTO events (topic, event_offset, name, key, data, at)",
    &[Text, Int, Text, Text, Blob, Time],
    "",
)
.key(&[0, 1], "topic, event_offset")
.missing(Missing::Conflict);

/// A place in a topic's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The random number of the history; 0 before the first event.
    pub epoch: i64,
    /// The offset of the last event seen; 0 before the first one.
    pub offset: i64,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventRow {
    /// The place in the topic.
    pub offset: i64,
    /// The event's stable wire name.
    pub name: String,
    /// The key within the topic.
    pub key: Option<String>,
    /// The encoded event.
    pub data: Vec<u8>,
    /// When it was stored, in milliseconds since 1970.
    pub at: i64,
}

/// Events of a topic after some position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where the topic is now.
    pub position: Position,
    /// Whether `events` begin right after the position asked for. If not, that history has ended or
    /// its events are gone, and the reader must load anew what it knows.
    pub recovered: bool,
    /// The events, in order, as many as asked for.
    pub events: Vec<EventRow>,
}

const POSITION: Sql = Sql::same("SELECT epoch, last_offset FROM streams WHERE topic = $1");

/// Returns where a topic is now.
///
/// # Errors
/// When the statement fails.
pub async fn position(c: &mut Connection, topic: &str) -> Result<Position, StoreError> {
    match c.query_one(&POSITION, vec![topic.into()]).await? {
        Some(row) => Ok(Position {
            epoch: row.int(0)?,
            offset: row.int(1)?,
        }),
        None => Ok(Position {
            epoch: 0,
            offset: 0,
        }),
    }
}

const POSITIONS: Sql = Sql {
    sqlite: "SELECT topic, epoch, last_offset FROM streams
             WHERE topic IN (SELECT value FROM json_each($1))",
    postgres: "SELECT topic, epoch, last_offset FROM streams
               WHERE topic = ANY(ARRAY(SELECT json_array_elements_text($1::json)))",
};

/// Returns where these topics are now, as far as they can be read and have events.
///
/// # Errors
/// When the statement fails.
pub async fn positions(
    c: &mut Connection,
    topics: &[Arc<str>],
) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
    let list = serde_json::to_string(topics).expect("texts can be written");
    let mut positions = Vec::new();
    for row in c.query(&POSITIONS, vec![list.into()]).await? {
        // One that cannot be read must not keep the others from being compared.
        if let (Ok(topic), Ok(epoch), Ok(offset)) = (row.text(0), row.int(1), row.int(2)) {
            positions.push((topic.into(), Position { epoch, offset }));
        }
    }
    Ok(positions)
}

const SINCE: Sql = Sql::same(
    "SELECT event_offset, name, key, data, at FROM events
     WHERE topic = $1 AND event_offset > $2 ORDER BY event_offset LIMIT $3",
);

/// Returns the events of a topic after `since`, at most `limit`. [`Position::default`] is before
/// the first event of whatever history there is.
///
/// # Errors
/// When a statement fails.
pub async fn since(
    c: &mut Connection,
    topic: &str,
    since: Position,
    limit: u32,
) -> Result<Page, StoreError> {
    let position = position(c, topic).await?;
    // Before the first event there is no history yet that could be another one.
    let same_history = since == Position::default()
        || since.epoch == position.epoch && since.offset <= position.offset;
    // Nor are there events: those that are stored by now belong to a numbering that was not read.
    if !same_history || position == Position::default() {
        return Ok(Page {
            position,
            recovered: same_history,
            events: Vec::new(),
        });
    }
    let values = vec![topic.into(), since.offset.into(), limit.into()];
    let rows = c.query(&SINCE, values).await?;
    // An event that cannot be read is missing, and the reader is told so.
    let events: Vec<_> = rows.iter().filter_map(|row| event(row).ok()).collect();
    let recovered = match events.first() {
        _ if events.len() < rows.len() => false,
        Some(first) => first.offset == since.offset + 1,
        None => since.offset == position.offset || limit == 0,
    };
    Ok(Page {
        position,
        recovered,
        events,
    })
}

fn event(row: &Row) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        offset: row.int(0)?,
        name: row.text(1)?,
        key: row.text_or_null(2)?,
        data: row.blob(3)?,
        at: row.int(4)?,
    })
}

/// Returns where a topic is now, as a page without events.
///
/// # Errors
/// When the statement fails.
pub async fn now(c: &mut Connection, topic: &str) -> Result<Page, StoreError> {
    let position = position(c, topic).await?;
    Ok(Page {
        position,
        recovered: true,
        events: Vec::new(),
    })
}

const TRIM: Sql = Sql::same(
    "DELETE FROM events WHERE topic = $1 AND event_offset <=
       (SELECT last_offset FROM streams WHERE topic = $1) - $2",
);

/// Deletes all events of a topic but the newest `kept`; returns how many went.
///
/// # Errors
/// When the statement fails.
pub async fn trim(c: &mut Connection, topic: &str, kept: u32) -> Result<u64, StoreError> {
    c.execute(&TRIM, vec![topic.into(), kept.into()]).await
}

// A cross join keeps SQLite from reading every event to find the few that are old.
const TRIM_ALL: Sql = Sql {
    sqlite: "DELETE FROM events WHERE (topic, event_offset) IN (
               SELECT events.topic, events.event_offset FROM streams
               CROSS JOIN events WHERE events.topic = streams.topic
                 AND events.event_offset <= streams.last_offset - $1
               LIMIT $2)",
    postgres: "DELETE FROM events WHERE ctid = ANY(ARRAY(
                 SELECT old.ctid FROM streams CROSS JOIN LATERAL (
                   SELECT events.ctid FROM events WHERE events.topic = streams.topic
                     AND events.event_offset <= streams.last_offset - $1
                   ORDER BY events.event_offset LIMIT $2) AS old
                 LIMIT $2))",
};

/// Deletes events beyond the newest `kept` of each topic, at most `limit`; returns how many went.
///
/// # Errors
/// When the statement fails.
pub async fn trim_all(c: &mut Connection, kept: u32, limit: u32) -> Result<u64, StoreError> {
    c.execute(&TRIM_ALL, vec![kept.into(), limit.into()]).await
}

const LIST: Sql = Sql::same(
    "SELECT topic, epoch, last_offset FROM streams WHERE topic > $1 ORDER BY topic LIMIT $2",
);

/// Returns topics and where they are, as far as they can be read, by name, at most `limit`, from
/// the one after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    c: &mut Connection,
    after: &str,
    limit: u32,
) -> Result<Vec<(String, Position)>, StoreError> {
    let mut topics = Vec::new();
    for row in c
        .query(&LIST, vec![Value::from(after), limit.into()])
        .await?
    {
        // One that cannot be read must not keep the others from being listed and trimmed.
        if let (Ok(topic), Ok(epoch), Ok(offset)) = (row.text(0), row.int(1), row.int(2)) {
            topics.push((topic, Position { epoch, offset }));
        }
    }
    Ok(topics)
}
