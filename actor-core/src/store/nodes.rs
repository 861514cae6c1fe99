//! The `nodes` table: one row a node name, its incarnation and its lease (architecture D1).
//!
//! Times are the database's. A row is *alive* while its expiry lies ahead, but not further ahead
//! than two of its own leases: then the clock stepped back, and the row counts as expired. How long
//! its leases are says the row itself: nodes may differ, and none judges another by its own.

use std::time::Duration;

use super::{Connection, Row, Sql, StoreError, Value, declined, suspicions, value::milliseconds};
use crate::id::{Epoch, GroupId, Incarnation, NodeId, ShardId};

/// What a node says about itself in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// It takes shards.
    Up,
    /// An operator drained it: it gives its shards away and stays as a way to the others.
    Resting,
    /// It gives its shards away, to leave.
    Draining,
    /// It left in order.
    Left,
    /// Another node found it dead.
    Dead,
}

/// One row of `nodes`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRow {
    /// The name.
    pub node: NodeId,
    /// The life of the node this row speaks of.
    pub incarnation: Incarnation,
    /// Where peers dial it; empty for a node without links.
    pub address: String,
    /// What it says about itself.
    pub state: NodeState,
    /// How long the lease still holds by the database's clock; zero when it expired.
    pub lease_left: Duration,
    /// How long a lease of this life lasts after a renewal.
    pub ttl: Duration,
    /// When the lease ends, in milliseconds since 1970; 0 once it was ended.
    pub expires_at: i64,
    /// Whether that is further ahead than any renewal can have written: the clock stepped back.
    pub too_far: bool,
    /// When this life began, in milliseconds since 1970.
    pub started_at: i64,
    /// How long this life has lasted by the database's clock.
    pub age: Duration,
    /// How large its part of the shards is beside others; 0 for a node that only sends.
    pub weight: u32,
    /// How many short lives of this name in a row ended before this one without order.
    pub falls: u32,
    /// The groups of shards it is a member of, in order.
    pub groups: Vec<GroupId>,
}

/// What a renewal found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewal {
    /// When the lease ends by the database's clock, in milliseconds since 1970.
    pub expires_at: i64,
    /// The shards whose rows name this incarnation.
    pub owned: Vec<(ShardId, Epoch)>,
}

/// For how long the row of a node that is gone is kept, for operators to see.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A life that lasted this long forgives the falls before it.
const STEADY: Duration = Duration::from_secs(120);

// Whoever registers waits here for whoever prunes, and sees what was pruned.
const HIGHEST: Sql = Sql {
    sqlite: "SELECT highest FROM pruned_lives",
    postgres: "SELECT highest FROM pruned_lives FOR UPDATE",
};

// Rows that somebody has locked are about to live again.
const PRUNE: Sql = Sql {
    sqlite: "DELETE FROM nodes
             WHERE node <> $1 AND expires_at < $2 AND (expires_at > 0 OR ended_at < $2)
             RETURNING incarnation",
    postgres: "DELETE FROM nodes WHERE node IN
                 (SELECT node FROM nodes
                  WHERE node <> $1 AND expires_at < actor_now() + $2
                    AND (expires_at > 0 OR ended_at < actor_now() + $2)
                  ORDER BY node FOR UPDATE SKIP LOCKED)
               RETURNING incarnation",
};

const RAISE_HIGHEST: Sql = Sql::same("UPDATE pruned_lives SET highest = $1 WHERE highest < $1");

const REGISTER: Sql = Sql {
    sqlite: "INSERT INTO nodes (node, incarnation, address, state, expires_at, started_at, ttl_ms)
             VALUES ($1, $2, $3, 'up', $4, $5, $7)
             ON CONFLICT (node) DO UPDATE SET incarnation = nodes.incarnation + 1,
               address = excluded.address, state = excluded.state,
               expires_at = excluded.expires_at, started_at = excluded.started_at,
               ttl_ms = excluded.ttl_ms, ended_at = 0, weight = 1, member_of = '',
               falls = CASE WHEN nodes.state = 'left' OR nodes.started_at < $6 THEN 0
                            ELSE nodes.falls + 1 END
             RETURNING incarnation",
    postgres: "INSERT INTO nodes
                 (node, incarnation, address, state, expires_at, started_at, ttl_ms)
               VALUES ($1, $2, $3, 'up', actor_now() + $4, actor_now() + $5, $7)
               ON CONFLICT (node) DO UPDATE SET incarnation = nodes.incarnation + 1,
                 address = excluded.address, state = excluded.state,
                 expires_at = excluded.expires_at, started_at = excluded.started_at,
                 ttl_ms = excluded.ttl_ms, ended_at = 0, weight = 1, member_of = '',
                 falls = CASE WHEN nodes.state = 'left'
                                OR nodes.started_at < actor_now() + $6 THEN 0
                              ELSE nodes.falls + 1 END
               RETURNING incarnation",
};

/// Registers a new life of `node` and returns its incarnation. Rows of nodes that have been gone
/// for a day are deleted by it: only registering makes more of them.
///
/// The former life loses its lease by it; whether it may is decided before (D1, D9). Must run
/// inside a transaction.
///
/// # Errors
/// When a statement fails.
pub async fn register(
    c: &mut Connection,
    node: &NodeId,
    address: &str,
    ttl: Duration,
) -> Result<Incarnation, StoreError> {
    let highest = prune(c, node).await?;
    let values = vec![
        node.into(),
        (highest + 1).into(),
        address.into(),
        Value::from_now(ttl),
        Value::NOW,
        Value::ago(STEADY),
        milliseconds(ttl).into(),
    ];
    let row = c.query_one(&REGISTER, values).await?;
    expect(row)?.incarnation(0)
}

/// Deletes the rows of those that are long gone, but for `node`, and what was noted of them;
/// returns the highest incarnation that was ever deleted.
async fn prune(c: &mut Connection, node: &NodeId) -> Result<i64, StoreError> {
    let before = expect(c.query_one(&HIGHEST, vec![]).await?)?.int(0)?;
    let gone = c.query(&PRUNE, vec![node.into(), Value::ago(KEPT)]).await?;
    let mut highest = before;
    for row in &gone {
        highest = highest.max(row.int(0)?);
    }
    if highest > before {
        c.execute(&RAISE_HIGHEST, vec![highest.into()]).await?;
    }
    if !gone.is_empty() {
        declined::forget_unknown(c).await?;
        suspicions::forget_unknown(c).await?;
    }
    Ok(highest)
}

const WEIGH: Sql = Sql::same("UPDATE nodes SET weight = $3 WHERE node = $1 AND incarnation = $2");

/// Says how large this life's part of the shards is beside others; 1 if it never says.
///
/// # Errors
/// When the statement fails.
pub async fn set_weight(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    weight: u32,
) -> Result<(), StoreError> {
    let values = vec![node.into(), incarnation.into(), weight.into()];
    c.execute(&WEIGH, values).await.map(drop)
}

const JOIN: Sql = Sql::same("UPDATE nodes SET member_of = $3 WHERE node = $1 AND incarnation = $2");

/// Says which groups this life of the node is a member of; none if it never says.
///
/// # Errors
/// When the statement fails.
pub async fn set_groups(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    groups: &[GroupId],
) -> Result<(), StoreError> {
    let numbers: Vec<_> = groups.iter().map(|group| group.0.to_string()).collect();
    let values = vec![node.into(), incarnation.into(), numbers.join(" ").into()];
    c.execute(&JOIN, values).await.map(drop)
}

const RENEW: Sql = Sql {
    sqlite: "UPDATE nodes SET expires_at = $3
             WHERE node = $1 AND incarnation = $2 AND expires_at > $4
             RETURNING expires_at",
    postgres: "UPDATE nodes SET expires_at = actor_now() + $3
               WHERE node = $1 AND incarnation = $2 AND expires_at > actor_now() + $4
               RETURNING expires_at",
};

const OWNED: Sql = Sql::same(
    "SELECT shard, epoch FROM shards WHERE owner = $1 AND incarnation = $2 ORDER BY shard",
);

/// Renews the lease and returns what this incarnation owns; `None` when the lease is lost: it ran
/// out, another incarnation registered, or the row was tombstoned.
///
/// # Errors
/// When a statement fails.
pub async fn renew(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    ttl: Duration,
) -> Result<Option<Renewal>, StoreError> {
    let values = vec![
        node.into(),
        incarnation.into(),
        Value::from_now(ttl),
        Value::NOW,
    ];
    let Some(row) = c.query_one(&RENEW, values).await? else {
        return Ok(None);
    };
    let expires_at = row.int(0)?;
    let rows = c
        .query(&OWNED, vec![node.into(), incarnation.into()])
        .await?;
    let owned = rows.iter().map(|row| Ok((row.shard(0)?, row.epoch(1)?)));
    let owned = owned.collect::<Result<_, StoreError>>()?;
    Ok(Some(Renewal { expires_at, owned }))
}

const SET_STATE: Sql = Sql::same(
    "UPDATE nodes SET state = $3 WHERE node = $1 AND incarnation = $2 AND expires_at > 0",
);

/// Says that the node drains, or is up again. Returns whether it still had its row.
///
/// # Errors
/// When the statement fails.
pub async fn set_draining(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    draining: bool,
) -> Result<bool, StoreError> {
    let state = if draining {
        NodeState::Draining
    } else {
        NodeState::Up
    };
    let values = vec![node.into(), incarnation.into(), state.name().into()];
    Ok(c.execute(&SET_STATE, values).await? > 0)
}

const REST: Sql = Sql {
    sqlite: "UPDATE nodes SET state = $2
             WHERE node = $1 AND state IN ('up', 'resting') AND expires_at > $3
             RETURNING incarnation",
    postgres: "UPDATE nodes SET state = $2
               WHERE node = $1 AND state IN ('up', 'resting') AND expires_at > actor_now() + $3
               RETURNING incarnation",
};

/// Asks the present life of `node` to rest, or to take shards again; asking twice changes nothing.
/// Returns which life was asked; `None` if none is there, or it is leaving.
///
/// # Errors
/// When the statement fails.
pub async fn set_resting(
    c: &mut Connection,
    node: &NodeId,
    resting: bool,
) -> Result<Option<Incarnation>, StoreError> {
    let state = if resting {
        NodeState::Resting
    } else {
        NodeState::Up
    };
    let values = vec![node.into(), state.name().into(), Value::NOW];
    let row = c.query_one(&REST, values).await?;
    row.map(|row| row.incarnation(0)).transpose()
}

const TOMBSTONE: Sql = Sql {
    sqlite: "UPDATE nodes SET state = $3, expires_at = 0, ended_at = $4
             WHERE node = $1 AND incarnation = $2 AND expires_at > 0",
    postgres: "UPDATE nodes SET state = $3, expires_at = 0, ended_at = actor_now() + $4
               WHERE node = $1 AND incarnation = $2 AND expires_at > 0",
};

/// Ends the lease of a node found dead. Returns false when that life had ended before.
///
/// # Errors
/// When the statement fails.
pub async fn tombstone(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<bool, StoreError> {
    end(c, node, incarnation, NodeState::Dead).await
}

const TOMBSTONE_ALL: Sql = Sql {
    sqlite: "UPDATE nodes SET state = 'dead', expires_at = 0, ended_at = $1 WHERE expires_at > 0",
    postgres: "UPDATE nodes SET state = 'dead', expires_at = 0, ended_at = actor_now() + $1
               WHERE expires_at > 0",
};

/// Ends every lease: for whoever holds the lock that proves that no other process uses the database
/// (architecture D9). Returns how many there were.
///
/// # Errors
/// When the statement fails.
pub async fn tombstone_all(c: &mut Connection) -> Result<u64, StoreError> {
    c.execute(&TOMBSTONE_ALL, vec![Value::NOW]).await
}

/// Ends this node's own lease, after its shards were released. Returns false if it had ended
/// before.
///
/// # Errors
/// When the statement fails.
pub async fn leave(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<bool, StoreError> {
    end(c, node, incarnation, NodeState::Left).await
}

async fn end(
    c: &mut Connection,
    node: &NodeId,
    incarnation: Incarnation,
    state: NodeState,
) -> Result<bool, StoreError> {
    let values = vec![
        node.into(),
        incarnation.into(),
        state.name().into(),
        Value::NOW,
    ];
    Ok(c.execute(&TOMBSTONE, values).await? > 0)
}

const LIST: Sql = Sql {
    sqlite: "SELECT node, incarnation, address, state, expires_at - $1, started_at,
               $1 - started_at, weight, falls, member_of, expires_at, ttl_ms
             FROM nodes ORDER BY node",
    postgres: "SELECT node, incarnation, address, state, expires_at - (actor_now() + $1),
                 started_at, actor_now() + $1 - started_at, weight, falls, member_of, expires_at,
                 ttl_ms
               FROM nodes ORDER BY node",
};

/// Returns all nodes but those that have been gone for long, by name. An expiry further ahead than
/// two leases of the node counts as expired.
///
/// # Errors
/// When the statement fails.
pub async fn list(c: &mut Connection) -> Result<Vec<NodeRow>, StoreError> {
    let rows = c.query(&LIST, vec![Value::NOW]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<NodeRow, StoreError> {
    let (left_ms, ttl_ms) = (row.int(4)?, row.int(11)?);
    let groups = row.text(9)?;
    let groups = groups.split_whitespace();
    Ok(NodeRow {
        node: row.node(0)?,
        incarnation: row.incarnation(1)?,
        address: row.text(2)?,
        state: NodeState::parse(&row.text(3)?),
        lease_left: lease_left(left_ms, ttl_ms),
        started_at: row.int(5)?,
        age: Duration::from_millis(u64::try_from(row.int(6)?).unwrap_or(0)),
        weight: u32::try_from(row.int(7)?).unwrap_or(1),
        falls: u32::try_from(row.int(8)?).unwrap_or(0),
        groups: groups
            .filter_map(|group| group.parse().ok().map(GroupId))
            .collect(),
        expires_at: row.int(10)?,
        ttl: Duration::from_millis(u64::try_from(ttl_ms).unwrap_or(0)),
        too_far: is_too_far(left_ms, ttl_ms),
    })
}

/// Judges a lease of `ttl_ms` that ends in `left_ms` by the database's clock.
fn lease_left(left_ms: i64, ttl_ms: i64) -> Duration {
    match u64::try_from(left_ms) {
        Ok(left) if !is_too_far(left_ms, ttl_ms) => Duration::from_millis(left),
        _ => Duration::ZERO,
    }
}

/// The same judgement is in SQL wherever a lease is looked at there.
fn is_too_far(left_ms: i64, ttl_ms: i64) -> bool {
    left_ms > 2 * ttl_ms
}

impl NodeState {
    /// Returns the word in the row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Resting => "resting",
            Self::Draining => "draining",
            Self::Left => "left",
            Self::Dead => "dead",
        }
    }

    /// Reads the word in the row; a word of a newer version counts as draining: it gets no shards.
    fn parse(name: &str) -> Self {
        match name {
            "up" => Self::Up,
            "resting" => Self::Resting,
            "left" => Self::Left,
            "dead" => Self::Dead,
            _ => Self::Draining,
        }
    }
}

/// Returns the row of a statement that always has one.
fn expect(row: Option<Row>) -> Result<Row, StoreError> {
    row.ok_or_else(|| StoreError::new(super::StoreErrorKind::Bug, "the statement returned no row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_too_far_ahead_counts_as_expired() {
        let table = [
            (-5, 10_000, 0),
            (0, 10_000, 0),
            (7, 10_000, 7),
            (20_000, 10_000, 20_000),
            (20_001, 10_000, 0),
            (20_001, 40_000, 20_001),
            (6_001, 3_000, 0),
        ];
        for (left_ms, ttl_ms, judged_ms) in table {
            let judged = lease_left(left_ms, ttl_ms);
            assert_eq!(
                judged,
                Duration::from_millis(judged_ms),
                "{left_ms} of {ttl_ms}"
            );
        }
    }
}
