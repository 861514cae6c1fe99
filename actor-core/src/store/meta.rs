//! The `cluster_meta` table: what all nodes on a database must agree on (architecture D4).

use super::{Connection, Sql, Store, StoreError, StoreErrorKind};

/// How the shard of an entity is computed; see [`ShardId::of`](crate::id::ShardId::of).
pub const HASH: &str = "xxh3-kind-0-id";

/// The version in which rows of our own are written.
pub const ROW_VERSION: &str = "1";

const INSERT: Sql =
    Sql::same("INSERT INTO cluster_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING");

const GET: Sql = Sql::same("SELECT value FROM cluster_meta WHERE key = $1");

/// Writes the settings on which all nodes must agree if the database is new, and compares them with
/// those written before otherwise.
///
/// # Errors
/// [`StoreErrorKind::Incompatible`], naming both values, or what the statements returned.
pub async fn agree(store: &Store, shards: u32) -> Result<(), StoreError> {
    store
        .write("agree", move |c| {
            Box::pin(async move {
                agree_on(c, "shards", &shards.to_string()).await?;
                agree_on(c, "hash", HASH).await?;
                agree_on(c, "row_version", ROW_VERSION).await
            })
        })
        .await
}

async fn agree_on(c: &mut Connection, key: &'static str, ours: &str) -> Result<(), StoreError> {
    c.execute(&INSERT, vec![key.into(), ours.into()]).await?;
    let theirs = match c.query_one(&GET, vec![key.into()]).await? {
        Some(row) => row.text(0)?,
        None => String::new(),
    };
    if theirs == ours {
        return Ok(());
    }
    let hint = if key == "shards" {
        ": set ACTOR_SHARDS to what it was"
    } else {
        ""
    };
    Err(StoreError::new(
        StoreErrorKind::Incompatible,
        format_args!(
            "the database was set up with {key} = {theirs}, this node has {key} = {ours}{hint}"
        ),
    ))
}
