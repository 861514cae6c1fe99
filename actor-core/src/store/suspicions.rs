//! Who saw that a node is dead before its lease ran out, and who said so wrongly (architecture D3).
//!
//! Not here: what counts as evidence; links know that.

use std::time::Duration;

use super::{Connection, Sql, StoreError, Value, nodes};
use crate::id::{Incarnation, NodeId};

/// For how long a witness is not believed after it had a living node declared dead.
const DISTRUST: Duration = Duration::from_secs(600);

/// One life of a node.
pub type Life = (NodeId, Incarnation);

/// What came of a testimony.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The node is dead: its lease has ended.
    Dead,
    /// Another witness is needed, or this one is not believed; otherwise the lease decides.
    Undecided,
    /// That life had ended before.
    Ended,
}

/// Says how many witnesses it takes when so many nodes hold a lease, the suspect included; `None`
/// if no number is enough.
///
/// With three or more nodes one broken link must not be able to end another node. With two there is
/// nobody else to ask.
pub fn witnesses_needed(unexpired: usize) -> Option<usize> {
    match unexpired {
        0 | 1 => None,
        2 => Some(1),
        _ => Some(2),
    }
}

// The row is locked, so that of two witnesses the second sees the first one's testimony.
const LOCK: Sql = Sql {
    sqlite: "SELECT 1 FROM nodes WHERE node = $1 AND incarnation = $2 AND expires_at > 0",
    postgres: "SELECT 1::bigint FROM nodes
               WHERE node = $1 AND incarnation = $2 AND expires_at > 0 FOR UPDATE",
};

const TESTIFY: Sql = Sql {
    sqlite: "INSERT INTO suspicions (node, incarnation, witness, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (node, incarnation, witness) DO UPDATE SET at = excluded.at",
    postgres: "INSERT INTO suspicions (node, incarnation, witness, at)
               VALUES ($1, $2, $3, actor_now() + $4)
               ON CONFLICT (node, incarnation, witness) DO UPDATE SET at = excluded.at",
};

const UNEXPIRED: Sql = Sql {
    sqlite: "SELECT COUNT(*) FROM nodes
             WHERE expires_at > $1 AND expires_at <= $1 + 2 * ttl_ms",
    postgres: "SELECT COUNT(*) FROM nodes WHERE expires_at > actor_now() + $1
                 AND expires_at <= actor_now() + $1 + 2 * ttl_ms",
};

const BELIEVED: Sql = Sql {
    sqlite: "SELECT COUNT(*) FROM suspicions AS s JOIN nodes AS n ON n.node = s.witness
             WHERE s.node = $1 AND s.incarnation = $2 AND s.at >= $4
               AND n.expires_at > $3 AND n.expires_at <= $3 + 2 * n.ttl_ms
               AND NOT EXISTS (SELECT 1 FROM distrust AS d
                               WHERE d.witness = s.witness AND d.until > $3)",
    postgres: "SELECT COUNT(*) FROM suspicions AS s JOIN nodes AS n ON n.node = s.witness
               WHERE s.node = $1 AND s.incarnation = $2 AND s.at >= actor_now() + $4
                 AND n.expires_at > actor_now() + $3
                 AND n.expires_at <= actor_now() + $3 + 2 * n.ttl_ms
                 AND NOT EXISTS (SELECT 1 FROM distrust AS d
                                 WHERE d.witness = s.witness AND d.until > actor_now() + $3)",
};

/// Stores that `witness` saw `suspect` dead, and ends the suspect's lease if that is enough
/// evidence. Must run inside a transaction.
///
/// # Errors
/// When a statement fails.
pub async fn declare(
    c: &mut Connection,
    suspect: &Life,
    witness: &NodeId,
    ttl: Duration,
) -> Result<Declared, StoreError> {
    let (node, life) = suspect;
    let named = || vec![Value::from(node), Value::from(*life)];
    if c.query_one(&LOCK, named()).await?.is_none() {
        return Ok(Declared::Ended);
    }
    let mut values = named();
    values.extend([witness.into(), Value::NOW]);
    c.execute(&TESTIFY, values).await?;
    let unexpired = count(c, &UNEXPIRED, vec![Value::NOW]).await?;
    let mut values = named();
    values.extend([Value::NOW, Value::ago(ttl)]);
    let believed = count(c, &BELIEVED, values).await?;
    if witnesses_needed(unexpired).is_none_or(|needed| believed < needed) {
        return Ok(Declared::Undecided);
    }
    if nodes::tombstone(c, node, *life).await? {
        return Ok(Declared::Dead);
    }
    Ok(Declared::Ended)
}

async fn count(c: &mut Connection, sql: &Sql, values: Vec<Value>) -> Result<usize, StoreError> {
    let row = c.query_one(sql, values).await?;
    let count = row.map_or(Ok(0), |row| row.int(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

const DOUBT: Sql = Sql {
    sqlite: "INSERT INTO distrust (witness, until)
             SELECT witness, $3 FROM suspicions WHERE node = $1 AND incarnation = $2
             ON CONFLICT (witness) DO UPDATE SET until = excluded.until",
    postgres: "INSERT INTO distrust (witness, until)
               SELECT witness, actor_now() + $3 FROM suspicions
               WHERE node = $1 AND incarnation = $2 ORDER BY witness
               ON CONFLICT (witness) DO UPDATE SET until = excluded.until",
};

/// A node that lives finds that it was declared dead: those who testified are not believed for ten
/// minutes. Returns how many there were.
///
/// # Errors
/// When the statement fails.
pub async fn doubt_witnesses(c: &mut Connection, deposed: &Life) -> Result<u64, StoreError> {
    let (node, life) = deposed;
    let values = vec![node.into(), (*life).into(), Value::from_now(DISTRUST)];
    c.execute(&DOUBT, values).await
}

const FORGET_UNKNOWN: Sql = Sql::same(
    "DELETE FROM distrust
     WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node = distrust.witness)",
);

/// Forgets the wrong testimonies of nodes whose rows are gone: nobody of their name may ever come
/// back.
///
/// # Errors
/// When the statement fails.
pub(super) async fn forget_unknown(c: &mut Connection) -> Result<(), StoreError> {
    c.execute(&FORGET_UNKNOWN, vec![]).await.map(drop)
}

const FORGET: Sql = Sql {
    sqlite: "DELETE FROM suspicions WHERE at < $1",
    postgres: "DELETE FROM suspicions WHERE at < actor_now() + $1",
};

/// Deletes testimonies nobody asks for any more. Returns how many.
///
/// # Errors
/// When the statement fails.
pub async fn forget(c: &mut Connection) -> Result<u64, StoreError> {
    c.execute(&FORGET, vec![Value::ago(DISTRUST)]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_witness_is_enough_only_where_there_is_no_other() {
        let needed: Vec<_> = (0..6).map(witnesses_needed).collect();

        assert_eq!(needed, [None, None, Some(1), Some(2), Some(2), Some(2)]);
    }
}
