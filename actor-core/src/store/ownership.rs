//! The `shards` table: who owns each shard, and under which epoch (architecture D1).
//!
//! Every change is a compare-and-set; every takeover and every unclear commit raises the epoch.

use std::{collections::BTreeMap, time::Duration};

use super::{Connection, Dialect, Sql, StoreError, Value, value::milliseconds};
use crate::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    shards::Shards,
};

/// One row of `shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardRow {
    /// The shard.
    pub shard: ShardId,
    /// Which life of which node owns it; `None` when it was released, or never owned.
    pub owner: Option<(NodeId, Incarnation)>,
    /// The fencing number.
    pub epoch: Epoch,
}

/// A shard that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// The shard.
    pub shard: ShardId,
    /// The new epoch.
    pub epoch: Epoch,
    /// Whether the former owner had released it. Otherwise it died with messages under way, and
    /// those are suspect.
    pub released: bool,
    /// Whether no former owner can run anything in it any more; otherwise [`quiet`] says when.
    pub outlasted: bool,
}

impl Taken {
    /// Records in `shards` that this node owns the shard, and whether its former owners are gone.
    pub fn grant(&self, shards: &Shards) {
        shards.grant(self.shard, self.epoch);
        if self.outlasted {
            shards.outlast(self.shard, shards.tenure(self.shard));
        }
    }
}

const LAST: Sql = Sql::same("SELECT COALESCE(MAX(shard), -1) FROM shards");

const INSERT: Sql = Sql {
    sqlite: "WITH RECURSIVE numbers (shard) AS
               (SELECT $1 WHERE $1 < $2
                UNION ALL SELECT shard + 1 FROM numbers WHERE shard + 1 < $2)
             INSERT INTO shards (shard, incarnation, epoch)
             SELECT shard, 0, 0 FROM numbers WHERE true ON CONFLICT (shard) DO NOTHING",
    postgres: "INSERT INTO shards (shard, incarnation, epoch)
               SELECT shard, 0, 0 FROM generate_series($1::bigint, $2::bigint - 1) AS shard
               ON CONFLICT (shard) DO NOTHING",
};

/// Makes the rows of `count` shards, those that are missing.
///
/// # Errors
/// When a statement fails.
pub async fn ensure(c: &mut Connection, count: u32) -> Result<(), StoreError> {
    let last = match c.query_one(&LAST, vec![]).await? {
        Some(row) => row.int(0)?,
        None => -1,
    };
    if last + 1 < i64::from(count) {
        c.execute(&INSERT, vec![Value::Int(last + 1), count.into()])
            .await?;
    }
    Ok(())
}

/// A takeover gives up on a lock it does not get by then; whoever wants it asks again.
const LOCK_TIMEOUT: Sql = Sql {
    sqlite: "",
    postgres: "SET LOCAL lock_timeout = 250",
};

/// Locks the rows of owners whose lease ran out, so that a late renewal cannot pass the judgement
/// while the takeover waits for a shard's row. Nodes come before shards in the order of locks.
const LOCK_GONE: Sql = Sql {
    sqlite: "",
    postgres: "SELECT node FROM nodes
               WHERE node IN (SELECT owner FROM shards WHERE shard IN
                   (SELECT value::bigint FROM json_array_elements_text($1::json)))
                 AND NOT (expires_at > actor_now() + $2
                          AND expires_at <= actor_now() + $2 + 2 * ttl_ms)
               ORDER BY node FOR UPDATE",
};

// Postgres locks the rows: a batch that has passed its fence holds them, so a takeover waits for
// its end.
const FREE: Sql = Sql {
    sqlite: "SELECT s.shard, s.owner IS NULL FROM shards AS s
             WHERE s.shard IN (SELECT value FROM json_each($1))
               AND (s.owner IS NULL OR NOT EXISTS (
                 SELECT 1 FROM nodes AS n WHERE n.node = s.owner
                   AND n.incarnation = s.incarnation AND n.expires_at > $2
                   AND n.expires_at <= $2 + 2 * n.ttl_ms))
             ORDER BY s.shard",
    postgres: "SELECT s.shard, s.owner IS NULL FROM shards AS s
               WHERE s.shard IN (SELECT value::bigint FROM json_array_elements_text($1::json))
                 AND (s.owner IS NULL OR NOT EXISTS (
                   SELECT 1 FROM nodes AS n WHERE n.node = s.owner
                     AND n.incarnation = s.incarnation AND n.expires_at > actor_now() + $2
                     AND n.expires_at <= actor_now() + $2 + 2 * n.ttl_ms))
               ORDER BY s.shard FOR UPDATE OF s",
};

// Postgres judges again: only a new statement sees an owner that registered, and took the shard,
// while the one before waited for the row. Now that the rows are locked nothing can change.
//
// Unless the owner gave the shard up, it may run on for a whole lease after its last renewal, by
// its own clock, whatever the database's clock did: so singletons wait for the part of it that the
// taker did not see pass. Of a life whose row is another's by now nobody knows how long its
// leases were: the longest there are.
const TAKE: Sql = Sql {
    sqlite: "UPDATE shards SET owner = $2, incarnation = $3, epoch = epoch + 1,
               quiet_until = CASE WHEN owner IS NULL THEN quiet_until
                 ELSE MAX(quiet_until, $4 + COALESCE(
                   (SELECT n.ttl_ms - COALESCE(
                      (SELECT json_extract(seen.value, '$[1]') FROM json_each($5) AS seen
                       WHERE seen.key = n.node
                         AND json_extract(seen.value, '$[0]') = n.expires_at), 0)
                    FROM nodes AS n
                    WHERE n.node = shards.owner AND n.incarnation = shards.incarnation),
                   (SELECT MAX(ttl_ms) FROM nodes), 0)) END
             WHERE shard IN (SELECT value FROM json_each($1))
             RETURNING shard, epoch, quiet_until <= $4",
    postgres: "UPDATE shards SET owner = $2, incarnation = $3, epoch = epoch + 1,
                 quiet_until = CASE WHEN owner IS NULL THEN quiet_until
                   ELSE GREATEST(quiet_until, actor_now() + $4 + COALESCE(
                     (SELECT n.ttl_ms - COALESCE(
                        (SELECT (seen.value ->> 1)::bigint FROM json_each($5::json) AS seen
                         WHERE seen.key = n.node
                           AND (seen.value ->> 0)::bigint = n.expires_at), 0)
                      FROM nodes AS n
                      WHERE n.node = shards.owner AND n.incarnation = shards.incarnation),
                     (SELECT MAX(ttl_ms) FROM nodes), 0)) END
               WHERE shard IN (SELECT value::bigint FROM json_array_elements_text($1::json))
                 AND (owner IS NULL OR NOT EXISTS (
                   SELECT 1 FROM nodes AS n WHERE n.node = shards.owner
                     AND n.incarnation = shards.incarnation AND n.expires_at > actor_now() + $4
                     AND n.expires_at <= actor_now() + $4 + 2 * n.ttl_ms))
               RETURNING shard, epoch, quiet_until <= actor_now() + $4",
};

/// For how long whoever takes shards has seen the leases of others unchanged, by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<NodeId, (i64, i64)>);

impl Seen {
    /// Adds that this node's lease ended at `expires_at` in each row that was read for so long.
    pub fn add(&mut self, node: NodeId, expires_at: i64, unchanged: Duration) {
        self.0.insert(node, (expires_at, milliseconds(unchanged)));
    }

    fn value(&self) -> Value {
        let names = self.0.iter().map(|(node, seen)| (node.as_str(), seen));
        let object: BTreeMap<_, _> = names.collect();
        serde_json::to_string(&object)
            .expect("names and numbers are JSON")
            .into()
    }
}

/// Takes those of `shards` whose owner released them, is gone or has no lease any more, and raises
/// their epochs. A lease that ends further ahead than two of its owner's leases is void. What was
/// `seen` of the former owners shortens how long singletons wait for them.
///
/// Must run inside a transaction: it judges, then takes.
///
/// # Errors
/// [`Busy`](super::StoreErrorKind::Busy) when a row is locked for more than 250 ms, on Postgres:
/// repeat it. When a statement fails otherwise.
pub async fn take(
    c: &mut Connection,
    shards: &[ShardId],
    node: &NodeId,
    incarnation: Incarnation,
    seen: &Seen,
) -> Result<Vec<Taken>, StoreError> {
    let values = vec![list_of(shards), Value::NOW];
    if c.dialect() == Dialect::Postgres {
        c.execute(&LOCK_TIMEOUT, vec![]).await?;
        c.query(&LOCK_GONE, values.clone()).await?;
    }
    let mut free = Vec::new();
    for row in c.query(&FREE, values).await? {
        free.push((row.shard(0)?, row.bool(1)?));
    }
    if free.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = free.iter().map(|(shard, _)| *shard).collect();
    let mut values = vec![list_of(&names), node.into(), incarnation.into()];
    values.extend([Value::NOW, seen.value()]);
    let mut taken = Vec::new();
    for row in c.query(&TAKE, values).await? {
        let shard = row.shard(0)?;
        let released = free.contains(&(shard, true));
        taken.push(Taken {
            shard,
            epoch: row.epoch(1)?,
            released,
            outlasted: row.bool(2)?,
        });
    }
    taken.sort_by_key(|taken| taken.shard);
    Ok(taken)
}

const RAISE: Sql = Sql::same(
    "UPDATE shards SET epoch = epoch + 1
     WHERE shard = $1 AND owner = $2 AND incarnation = $3 AND epoch = $4",
);

const EPOCH: Sql =
    Sql::same("SELECT epoch FROM shards WHERE shard = $1 AND owner = $2 AND incarnation = $3");

/// Raises the epoch of a shard this life of the node owns under `epoch`, and returns the epoch it
/// has then; `None` when it owns the shard no more.
///
/// Only the owner raises its epoch, so a newer one under its own name is its own: the answer to an
/// earlier raise was lost.
///
/// # Errors
/// When a statement fails.
pub async fn raise(
    c: &mut Connection,
    shard: ShardId,
    node: &NodeId,
    incarnation: Incarnation,
    epoch: Epoch,
) -> Result<Option<Epoch>, StoreError> {
    let owner = || vec![shard.into(), node.into(), incarnation.into()];
    let mut values = owner();
    values.push(epoch.into());
    c.execute(&RAISE, values).await?;
    match c.query_one(&EPOCH, owner()).await? {
        Some(row) => row.epoch(0).map(Some),
        None => Ok(None),
    }
}

const RELEASE: Sql = Sql {
    sqlite: "UPDATE shards SET owner = NULL WHERE owner = $2 AND incarnation = $3
               AND (shard, epoch) IN (SELECT CAST(key AS INTEGER), value FROM json_each($1))",
    postgres: "UPDATE shards SET owner = NULL WHERE owner = $2 AND incarnation = $3
                 AND (shard, epoch) IN
                   (SELECT key::bigint, value::bigint FROM json_each_text($1::json))",
};

/// Gives up those of `shards` that this life of the node owns under these epochs; returns how many.
///
/// A release whose end is unknown may arrive late: it changes nothing once the epoch was raised.
///
/// # Errors
/// When the statement fails.
pub async fn release(
    c: &mut Connection,
    shards: &[(ShardId, Epoch)],
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<u64, StoreError> {
    let values = vec![epochs_of(shards), node.into(), incarnation.into()];
    c.execute(&RELEASE, values).await
}

const QUIET: Sql = Sql {
    sqlite: "SELECT shard, MIN(quiet_until - $4, (SELECT MAX(ttl_ms) FROM nodes)) FROM shards
             WHERE owner = $2 AND incarnation = $3 AND shard IN (SELECT value FROM json_each($1))
             ORDER BY shard",
    postgres: "SELECT shard,
                 LEAST(quiet_until - (actor_now() + $4), (SELECT MAX(ttl_ms) FROM nodes))
               FROM shards
               WHERE owner = $2 AND incarnation = $3
                 AND shard IN (SELECT value::bigint FROM json_array_elements_text($1::json))
               ORDER BY shard",
};

/// Returns, for those of `shards` that this life of the node owns, for how long a former owner may
/// not know yet that it lost the shard; zero if there is none.
///
/// No longer than the longest lease, also if the database's clock stepped back since. Whoever waits
/// does so by its own clock, and need not ask again.
///
/// # Errors
/// When the statement fails.
pub async fn quiet(
    c: &mut Connection,
    shards: &[ShardId],
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<Vec<(ShardId, Duration)>, StoreError> {
    let values = vec![list_of(shards), node.into(), incarnation.into(), Value::NOW];
    let rows = c.query(&QUIET, values).await?;
    let left = rows.iter().map(|row| {
        let left_ms = u64::try_from(row.int(1)?).unwrap_or(0);
        Ok((row.shard(0)?, Duration::from_millis(left_ms)))
    });
    left.collect()
}

const LIST: Sql = Sql::same("SELECT shard, owner, incarnation, epoch FROM shards ORDER BY shard");

/// Returns all shards.
///
/// # Errors
/// When the statement fails.
pub async fn list(c: &mut Connection) -> Result<Vec<ShardRow>, StoreError> {
    let mut shards = Vec::new();
    for row in c.query(&LIST, vec![]).await? {
        let owner = row.text_or_null(1)?.map(NodeId::new);
        let incarnation = row.incarnation(2)?;
        shards.push(ShardRow {
            shard: row.shard(0)?,
            owner: owner.map(|node| (node, incarnation)),
            epoch: row.epoch(3)?,
        });
    }
    Ok(shards)
}

/// Returns shards as one JSON parameter, so that one prepared text takes any number of them.
pub(super) fn list_of(shards: &[ShardId]) -> Value {
    let numbers: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
    format!("[{}]", numbers.join(",")).into()
}

/// Returns shards with their epochs as one JSON parameter.
fn epochs_of(shards: &[(ShardId, Epoch)]) -> Value {
    let pair = |(shard, epoch): &(ShardId, Epoch)| format!("\"{}\":{}", shard.0, epoch.0);
    let pairs: Vec<_> = shards.iter().map(pair).collect();
    format!("{{{}}}", pairs.join(",")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_one_json_parameter() {
        assert_eq!(list_of(&[]), Value::from("[]"));
        assert_eq!(list_of(&[ShardId(3), ShardId(11)]), Value::from("[3,11]"));
        let mut seen = Seen::default();
        seen.add(NodeId::new("a \"b\""), 70, Duration::from_secs(2));
        assert_eq!(seen.value(), Value::from(r#"{"a \"b\"":[70,2000]}"#));
        let pairs = [(ShardId(3), Epoch(7)), (ShardId(11), Epoch(2))];
        assert_eq!(epochs_of(&pairs), Value::from(r#"{"3":7,"11":2}"#));
    }
}
