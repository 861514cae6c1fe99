//! Writes SQLite's log back into its file, away from the connection that commits (architecture D9).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    Connection, Store, StoreError, executor::Executor, open::Purpose, pool::Pool, sql::Sql, submit,
};
use crate::clock::Clock;

/// Writes back what no reader still needs; waits for nobody.
const PASSIVE: Sql = Sql::same("PRAGMA wal_checkpoint(PASSIVE)");

/// Writes everything back and cuts the log to nothing; waits for readers and the writer.
const TRUNCATE: Sql = Sql::same("PRAGMA wal_checkpoint(TRUNCATE)");

/// Starts the task that writes the log back; it ends with the store.
pub(super) fn start(store: &Store) {
    let every = store.pool.config().checkpoint_every;
    let Some(file) = store.pool.file() else {
        return;
    };
    if every.is_zero() {
        return;
    }
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let pool = Arc::downgrade(&store.pool);
    let executor = Arc::clone(&store.executor);
    // The task owns itself: it looks once a period whether the store is still there.
    tokio::spawn(repeat(pool, executor, log.into(), every));
}

async fn repeat(pool: Weak<Pool>, executor: Arc<dyn Executor>, log: PathBuf, every: Duration) {
    let (mut done, mut connection) = (0, None);
    loop {
        Clock.sleep(every).await;
        let Some(pool) = pool.upgrade().filter(|pool| !pool.is_closed()) else {
            return;
        };
        let commits = pool.commits();
        if commits == done {
            continue;
        }
        let (log, held) = (log.clone(), connection.take());
        let job = async move { checkpoint(&pool, held, &log).await };
        match submit(&executor, "checkpoint", job).await.flatten() {
            Ok(held) => (done, connection) = (commits, Some(held)),
            // The log only grows a little longer; the next round tries again.
            Err(error) => tracing::warn!(%error, "cannot write the log back"),
        }
    }
}

/// Does one round on `held`, or on a new connection, and returns it.
async fn checkpoint(
    pool: &Pool,
    held: Option<Connection>,
    log: &Path,
) -> Result<Connection, StoreError> {
    let mut connection = match held {
        Some(connection) => connection,
        None => pool.connect(Purpose::Checkpoint).await?,
    };
    let long = fs::metadata(log).is_ok_and(|file| file.len() > pool.config().log_bytes_max);
    let kind = if long { &TRUNCATE } else { &PASSIVE };
    connection.query(kind, vec![]).await?;
    Ok(connection)
}
