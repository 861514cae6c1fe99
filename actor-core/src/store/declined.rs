//! Which nodes cannot serve which shards: a program older than a row in them leaves that row, and
//! its shard, to newer ones (architecture D12).

use super::{Connection, Sql, StoreError, ownership::list_of};
use crate::id::{Incarnation, NodeId, ShardId};

const DECLINE: Sql = Sql {
    sqlite: "INSERT INTO declined (shard, node, incarnation)
             SELECT value, $2, $3 FROM json_each($1) WHERE true
             ON CONFLICT (shard, node) DO UPDATE SET incarnation = excluded.incarnation",
    postgres: "INSERT INTO declined (shard, node, incarnation)
               SELECT value::bigint, $2, $3 FROM json_array_elements_text($1::json)
               ON CONFLICT (shard, node) DO UPDATE SET incarnation = excluded.incarnation",
};

/// Stores that this life of a node cannot serve these shards, sorted.
///
/// # Errors
/// When the statement fails.
pub async fn decline(
    c: &mut Connection,
    shards: &[ShardId],
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<(), StoreError> {
    let values = vec![list_of(shards), node.into(), incarnation.into()];
    c.execute(&DECLINE, values).await.map(drop)
}

const LIST: Sql = Sql::same("SELECT shard, node, incarnation FROM declined ORDER BY shard, node");

/// Returns what was declined, also by lives that are over.
///
/// # Errors
/// When the statement fails.
pub async fn list(c: &mut Connection) -> Result<Vec<(ShardId, NodeId, Incarnation)>, StoreError> {
    let rows = c.query(&LIST, vec![]).await?;
    let read = rows
        .iter()
        .map(|row| Ok((row.shard(0)?, row.node(1)?, row.incarnation(2)?)));
    read.collect()
}

const FORGET_UNKNOWN: Sql = Sql::same(
    "DELETE FROM declined
     WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node = declined.node)",
);

/// Forgets what nodes declined whose rows are gone: nobody of their name may ever come back.
///
/// # Errors
/// When the statement fails.
pub(super) async fn forget_unknown(c: &mut Connection) -> Result<(), StoreError> {
    c.execute(&FORGET_UNKNOWN, vec![]).await.map(drop)
}

const FORGET: Sql = Sql::same("DELETE FROM declined WHERE node = $1");

/// Forgets what earlier lives of a node declined: this one may be a newer program.
///
/// # Errors
/// When the statement fails.
pub async fn forget(c: &mut Connection, node: &NodeId) -> Result<u64, StoreError> {
    c.execute(&FORGET, vec![node.into()]).await
}
