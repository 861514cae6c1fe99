//! The fence: which shards of a batch are not ours any more (architecture D2).

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::{
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{
        Connection, Dialect, StoreError, Value,
        statement::{
            ColumnType::{Int, Text},
            Rank, Statement, rows_text,
        },
    },
};

/// Returns the pairs of a batch that are *not* owned as they say: none, nearly always.
///
/// Postgres reads the shards' rows `FOR SHARE`, so that a takeover waits for this transaction.
/// SQLite's immediate transaction excludes every other one.
const HEAD: &str = "WITH batch (shard, epoch) AS (";
const TAIL: &str = ") SELECT batch.shard, batch.epoch FROM batch
  LEFT JOIN shards ON shards.shard = batch.shard
  WHERE shards.epoch IS NOT batch.epoch OR shards.owner IS NOT ? OR shards.incarnation IS NOT ?";

/// The same for Postgres, any number of pairs. Each says by whom it should be owned.
///
/// The rows are locked in the order of their shards, before anything else of the transaction
/// (architecture D2). Materialized, so that all of them are locked whatever the join needs.
static POSTGRES: Statement = Statement::new(
    "fence",
    Rank(0),
    "WITH batch (shard, epoch, owner, incarnation) AS MATERIALIZED (",
    &[Int, Int, Text, Int],
    "), held AS MATERIALIZED (
       SELECT shard, owner, incarnation, epoch FROM shards
       WHERE shard = ANY(ARRAY(SELECT batch.shard FROM batch)) ORDER BY shard FOR SHARE)
     SELECT batch.shard, batch.epoch FROM batch LEFT JOIN held ON held.shard = batch.shard
     WHERE held.epoch IS DISTINCT FROM batch.epoch OR held.owner IS DISTINCT FROM batch.owner
       OR held.incarnation IS DISTINCT FROM batch.incarnation",
);

/// How many pairs the longest text takes.
const PAIRS_MAX: usize = 512;

/// The texts for 1, 2, 4, … [`PAIRS_MAX`] pairs.
static TEXTS: [OnceLock<Arc<str>>; PAIRS_MAX.ilog2() as usize + 1] =
    [const { OnceLock::new() }; PAIRS_MAX.ilog2() as usize + 1];

/// Returns those of `epochs` that this life of this node does not hold.
pub(super) async fn fenced(
    c: &mut Connection,
    epochs: &BTreeSet<(ShardId, Epoch)>,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<BTreeSet<(ShardId, Epoch)>, StoreError> {
    let mut fenced = BTreeSet::new();
    let all: Vec<_> = epochs.iter().copied().collect();
    if c.dialect() == Dialect::Postgres {
        let (node, life) = (Value::from(node), Value::from(incarnation));
        let row = |(shard, epoch): &(ShardId, Epoch)| {
            [
                Value::from(*shard),
                (*epoch).into(),
                node.clone(),
                life.clone(),
            ]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        let bound = c.bind_rows(&POSTGRES, rows.len(), |row, column| &rows[row][column])?;
        let text = AssertSqlSafe(Arc::clone(POSTGRES.text(c.dialect(), rows.len())));
        for row in c.fetch(text.into_sql_str(), bound).await? {
            fenced.insert((row.shard(0)?, row.epoch(1)?));
        }
        return Ok(fenced);
    }
    for part in all.chunks(PAIRS_MAX) {
        let (text, values) = question(part, node, incarnation);
        let bound = c.bind(values.len(), values.iter())?;
        for row in c.fetch(AssertSqlSafe(text).into_sql_str(), bound).await? {
            fenced.insert((row.shard(0)?, row.epoch(1)?));
        }
    }
    Ok(fenced)
}

/// Returns the text and its values. The last pair is repeated up to a size that has a prepared
/// text; asking twice about a pair gives the same answer twice.
fn question(
    pairs: &[(ShardId, Epoch)],
    node: &NodeId,
    incarnation: Incarnation,
) -> (Arc<str>, Vec<Value>) {
    let size = pairs.len().next_power_of_two();
    let text = TEXTS[size.ilog2() as usize].get_or_init(|| rows_text(HEAD, 2, size, TAIL).into());
    let padding = pairs.last().into_iter().cycle();
    let mut values = Vec::with_capacity(2 * size + 2);
    for (shard, epoch) in pairs.iter().chain(padding).take(size) {
        values.push((*shard).into());
        values.push((*epoch).into());
    }
    values.push(node.into());
    values.push(incarnation.into());
    (Arc::clone(text), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_padded_to_a_prepared_size() {
        let pairs = [1, 2, 3].map(|number| (ShardId(number), Epoch(7)));

        let (text, values) = question(&pairs, &NodeId::new("a"), Incarnation(2));

        assert_eq!(text.matches("(?,?)").count(), 4);
        assert_eq!(values.len(), 2 * 4 + 2);
        assert_eq!(values[4..8], [3, 7, 3, 7].map(Value::Int));
    }
}
