//! The `machine_ids` table: which life of which node makes ids under which number, and for which
//! stretch of time.
//!
//! Invariant: two stretches of one number never overlap. So no id is made twice, whatever a node
//! that was deposed does and whatever a clock does: ids carry their time, and a stretch is only
//! given out behind the end of the one before it. The lease of a node decides nothing but when its
//! number is worth giving away.

use std::time::Duration;

use super::{Connection, Row, Sql, StoreError, StoreErrorKind, Value};
use crate::id::{Incarnation, MachineId, NodeId};

/// A number and a stretch of time, for one life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The number.
    pub machine: MachineId,
    /// The first millisecond since 1970 in which ids may be made.
    pub from_ms: i64,
    /// The last one.
    pub until_ms: i64,
    /// The database's time when this was read.
    pub now_ms: i64,
}

// A clock that stepped back does not take back what was given.
const EXTEND: Sql = Sql {
    sqlite: "UPDATE machine_ids SET until_ms = MAX(until_ms, $3)
             WHERE node = $1 AND incarnation = $2
             RETURNING machine, from_ms, until_ms, $4",
    postgres: "UPDATE machine_ids SET until_ms = GREATEST(until_ms, actor_now() + $3)
               WHERE node = $1 AND incarnation = $2
               RETURNING machine, from_ms, until_ms, actor_now() + $4",
};

// The one that was used longest ago. Nodes that ask at once skip one another's rows. The judgement
// of a lease may be late by a renewal that commits meanwhile: then the holder finds its row gone
// when it asks for more, and takes another; the stretches do not overlap even so.
const CLAIM: Sql = Sql {
    sqlite: "UPDATE machine_ids SET node = $1, incarnation = $2, from_ms = $4, until_ms = $3
             WHERE machine = (
               SELECT m.machine FROM machine_ids AS m
               WHERE m.until_ms < $4 AND NOT EXISTS (
                 SELECT 1 FROM nodes AS n WHERE n.node = m.node
                   AND n.incarnation = m.incarnation AND n.expires_at > $4)
               ORDER BY m.until_ms, m.machine LIMIT 1)
             RETURNING machine, from_ms, until_ms, $4",
    postgres: "UPDATE machine_ids SET node = $1, incarnation = $2,
                 from_ms = actor_now() + $4, until_ms = actor_now() + $3
               WHERE machine = (
                 SELECT m.machine FROM machine_ids AS m
                 WHERE m.until_ms < actor_now() + $4 AND NOT EXISTS (
                   SELECT 1 FROM nodes AS n WHERE n.node = m.node
                     AND n.incarnation = m.incarnation AND n.expires_at > actor_now() + $4)
                 ORDER BY m.until_ms, m.machine LIMIT 1 FOR UPDATE OF m SKIP LOCKED)
               RETURNING machine, from_ms, until_ms, actor_now() + $4",
};

/// Lets this life of a node make ids until `length` from now: under the number it has, or under one
/// that is free. `None` when none is: all are held by nodes with a lease, or were held a moment
/// ago.
///
/// # Errors
/// When a statement fails.
pub async fn lease(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    length: Duration,
) -> Result<Option<Stretch>, StoreError> {
    let values = || {
        let (length, now) = (Value::from_now(length), Value::NOW);
        vec![node.into(), incarnation.into(), length, now]
    };
    let mut row = c.query_one(&EXTEND, values()).await?;
    if row.is_none() {
        row = c.query_one(&CLAIM, values()).await?;
    }
    row.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<Stretch, StoreError> {
    let number = row.int(0)?;
    let machine = u16::try_from(number).ok().and_then(MachineId::new);
    let machine = machine.ok_or_else(|| {
        let text = format_args!("{number} is no machine id");
        StoreError::new(StoreErrorKind::Unreadable, text)
    })?;
    Ok(Stretch {
        machine,
        from_ms: row.int(1)?,
        until_ms: row.int(2)?,
        now_ms: row.int(3)?,
    })
}

const RELEASE: Sql = Sql::same(
    "UPDATE machine_ids SET node = '', until_ms = $3 WHERE node = $1 AND incarnation = $2",
);

/// Gives the number back: this life makes no more ids, and `last_ms` is the time in its last one.
///
/// # Errors
/// When the statement fails.
pub async fn release(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    last_ms: i64,
) -> Result<(), StoreError> {
    let values = vec![node.into(), incarnation.into(), last_ms.into()];
    c.execute(&RELEASE, values).await.map(drop)
}
