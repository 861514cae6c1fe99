//! How healthy the tables are: what keeps dead rows from being cleared away, and how many there are
//! (architecture D17).
//!
//! PostgreSQL only: SQLite changes rows in place. Not here: clearing them away, which autovacuum
//! does with the settings that the migration gives each table.

use std::time::Duration;

use super::{Connection, Dialect, Sql, StoreError};

/// What PostgreSQL tells about our tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHealth {
    /// For how long the oldest open transaction of this database has kept rows from being cleared
    /// away, prepared ones included; zero if there is none. Sessions of other roles are seen only
    /// by a role that may see them (`pg_read_all_stats`); replication slots have no age in time.
    pub oldest_snapshot: Duration,
    /// By table: rows that are dead and still there, as the server last estimated.
    pub dead_rows: Vec<(String, u64)>,
}

// `backend_xid` counts as well: what it deleted cannot be cleared away before it ends.
const OLDEST: Sql = Sql::same(
    "SELECT coalesce(floor(extract(epoch FROM clock_timestamp() - min(since)) * 1000), 0)::bigint
     FROM (
       SELECT xact_start AS since FROM pg_stat_activity
       WHERE datname = current_database() AND backend_type = 'client backend'
         AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
       UNION ALL
       SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
     ) AS unended",
);

// By name: users may have tables of their own in the same schema.
const DEAD: Sql = Sql::same(
    "SELECT relname::text, coalesce(n_dead_tup, 0) FROM pg_stat_user_tables
     WHERE schemaname = current_schema() AND relname IN ('nodes', 'shards', 'entities', 'replies',
       'mailbox', 'dead_letters', 'streams', 'events', 'runs', 'journal')
     ORDER BY relname",
);

/// Returns what is known of the tables; `None` on SQLite.
///
/// # Errors
/// When the store does not answer.
pub async fn health(c: &mut Connection) -> Result<Option<TableHealth>, StoreError> {
    if c.dialect() != Dialect::Postgres {
        return Ok(None);
    }
    let oldest = match c.query_one(&OLDEST, vec![]).await? {
        Some(row) => u64::try_from(row.int(0)?).unwrap_or(0),
        None => 0,
    };
    let mut dead_rows = Vec::new();
    for row in c.query(&DEAD, vec![]).await? {
        dead_rows.push((row.text(0)?, row.counter(1)?));
    }
    Ok(Some(TableHealth {
        oldest_snapshot: Duration::from_millis(oldest),
        dead_rows,
    }))
}
