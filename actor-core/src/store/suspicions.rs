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

// Suspect and witnesses are locked together, in the order of their names. So of two witnesses the
// second sees the first one's testimony, and of two nodes that declare each other dead at the same
// moment the second sees that its own lease is over.
const LOCK: Sql = Sql {
    sqlite: "SELECT node, incarnation, expires_at > 0,
               expires_at > $4 AND expires_at <= $4 + 2 * ttl_ms
             FROM nodes WHERE node IN ($1, $3) OR node IN
               (SELECT witness FROM suspicions WHERE node = $1 AND incarnation = $2)
             ORDER BY node",
    postgres: "SELECT node, incarnation, expires_at > 0,
                 expires_at > actor_now() + $4 AND expires_at <= actor_now() + $4 + 2 * ttl_ms
               FROM nodes WHERE node IN ($1, $3) OR node IN
                 (SELECT witness FROM suspicions WHERE node = $1 AND incarnation = $2)
               ORDER BY node FOR UPDATE OF nodes",
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
/// evidence. A witness that holds no lease in this life is not believed. Must run inside a
/// transaction.
///
/// # Errors
/// When a statement fails.
pub async fn declare(
    c: &mut Connection,
    suspect: &Life,
    witness: &Life,
    ttl: Duration,
) -> Result<Declared, StoreError> {
    let (node, life) = suspect;
    let named = || vec![Value::from(node), Value::from(*life)];
    let (lives, holds) = lock(c, suspect, witness).await?;
    if !lives {
        return Ok(Declared::Ended);
    }
    if !holds {
        return Ok(Declared::Undecided);
    }
    let mut values = named();
    values.extend([Value::from(&witness.0), Value::NOW]);
    c.execute(&TESTIFY, values).await?;
    // Once more: who testified while this waited for the suspect's row counts, too, and must not
    // be declared dead meanwhile.
    lock(c, suspect, witness).await?;
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

/// Locks the rows of the suspect and of all who testify against it. Returns whether that life of
/// the suspect has not ended, and whether that life of the witness holds a lease.
async fn lock(
    c: &mut Connection,
    suspect: &Life,
    witness: &Life,
) -> Result<(bool, bool), StoreError> {
    let (node, life) = suspect;
    let values = vec![node.into(), (*life).into(), (&witness.0).into(), Value::NOW];
    let (mut lives, mut holds) = (false, false);
    for row in c.query(&LOCK, values).await? {
        let found = (NodeId::new(row.text(0)?), row.incarnation(1)?);
        lives |= found == *suspect && row.bool(2)?;
        holds |= found == *witness && row.bool(3)?;
    }
    Ok((lives, holds))
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
