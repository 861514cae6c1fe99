//! Writes SQLite's log back into its file, away from the connection that commits (architecture D9).

use std::{
    fs,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Store, executor::Executor, pool::Pool, sql::Sql, submit};
use crate::{clock::Clock, store::StoreError};

/// Writes back what no reader still needs; waits for nobody.
const PASSIVE: Sql = Sql::same("PRAGMA wal_checkpoint(PASSIVE)");

/// Writes everything back and cuts the log to nothing; waits for readers and the writer.
const TRUNCATE: Sql = Sql::same("PRAGMA wal_checkpoint(TRUNCATE)");

/// Starts the task that writes the log back; it ends with the store.
pub(super) fn start(store: &Store) {
    let every = store.pool.config().checkpoint_every;
    if store.file().is_none() || every.is_zero() {
        return;
    }
    let pool = Arc::downgrade(&store.pool);
    let executor = Arc::clone(&store.executor);
    // The task owns itself: it looks once a period whether the store is still there.
    tokio::spawn(repeat(pool, executor, every));
}

async fn repeat(pool: Weak<Pool>, executor: Arc<dyn Executor>, every: Duration) {
    let mut done = 0;
    loop {
        Clock.sleep(every).await;
        let Some(pool) = pool.upgrade().filter(|pool| !pool.is_closed()) else {
            return;
        };
        let commits = pool.commits();
        if commits == done {
            continue;
        }
        let round = async move { once(&pool).await };
        match submit(&executor, "checkpoint", round).await.flatten() {
            Ok(()) => done = commits,
            // The log only grows a little longer; the next round tries again.
            Err(error) => tracing::warn!(%error, "cannot write the log back"),
        }
    }
}

/// Writes the log back once, and cuts it if it is long.
pub(super) async fn once(pool: &Pool) -> Result<(), StoreError> {
    let Some(file) = pool.file() else {
        return Ok(());
    };
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let long = fs::metadata(log).is_ok_and(|log| log.len() > pool.config().log_bytes_max);
    let kind = if long { &TRUNCATE } else { &PASSIVE };
    pool.checkpoint(kind).await
}
