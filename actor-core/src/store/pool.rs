//! The connections of one store: one that writes, two that read, and what becomes of a broken one.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::{
    StoreConfig,
    connection::Connection,
    error::{StoreError, StoreErrorKind},
    executor::{BoxFuture, Executor},
    open::{Purpose, Target},
    sql::Sql,
};

/// How many connections read beside the writer.
const READERS: usize = 2;

/// The connections. Each is taken out of its place while a job uses it and put back only if it is
/// known to be in order, so a panic or a failed rollback never leaves one inside a transaction.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    config: StoreConfig,
    writer: AsyncMutex<Option<Connection>>,
    readers: Mutex<VecDeque<Connection>>,
    reader_permits: Semaphore,
    checkpointer: AsyncMutex<Option<Connection>>,
    /// Counts commits, so that a checkpoint knows whether the log grew.
    commits: AtomicU64,
    closed: AtomicBool,
}

impl Pool {
    /// Opens the writer and the readers, so that a bad file is found now.
    pub(super) async fn open(target: Target, config: StoreConfig) -> Result<Self, StoreError> {
        let writer = target.connect(&config, Purpose::Write).await?;
        let mut readers = VecDeque::new();
        if target != Target::Memory {
            for _ in 0..READERS {
                readers.push_back(target.connect(&config, Purpose::Read).await?);
            }
        }
        Ok(Self {
            target,
            config,
            writer: AsyncMutex::new(Some(writer)),
            readers: Mutex::new(readers),
            reader_permits: Semaphore::new(READERS),
            checkpointer: AsyncMutex::new(None),
            commits: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::Memory => None,
            Target::File(path) => Some(path),
        }
    }

    pub(super) fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Returns how many transactions were committed so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `read` outside of any transaction.
    pub(super) async fn read<T, F>(&self, executor: &dyn Executor, read: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        if self.target == Target::Memory {
            let mut place = self.writer.lock().await;
            let mut connection = self.take(&mut place, Purpose::Write).await?;
            connection.set_now(executor.now_ms());
            let answer = read(&mut connection).await;
            *place = keep(connection, is_broken(&answer)).await;
            return answer;
        }
        let _permit = self.reader_permits.acquire().await.map_err(|_| closed())?;
        let mut place = self.idle_readers().pop_front();
        let mut connection = self.take(&mut place, Purpose::Read).await?;
        connection.set_now(executor.now_ms());
        let answer = read(&mut connection).await;
        if let Some(connection) = keep(connection, is_broken(&answer)).await {
            self.idle_readers().push_back(connection);
        }
        answer
    }

    /// Runs `write` between `BEGIN` and `COMMIT`; an error of it rolls back.
    pub(super) async fn write<T, E, F>(&self, executor: &dyn Executor, write: F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, E>>,
    {
        let mut place = self.writer.lock().await;
        let mut connection = self.take(&mut place, Purpose::Write).await?;
        connection.set_now(executor.now_ms());
        let begun = connection.begin().await;
        if let Err(error) = begun {
            *place = keep(connection, error.breaks_connection()).await;
            return Err(error.into());
        }
        let error = match write(&mut connection).await {
            Ok(answer) => match connection.commit().await {
                Ok(()) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    *place = Some(connection);
                    return Ok(answer);
                }
                Err(error) if error.kind() == StoreErrorKind::Unclear => {
                    // Whatever the connection thinks of its transaction, nobody will ask it again.
                    discard(connection).await;
                    return Err(error.into());
                }
                Err(error) => error.into(),
            },
            Err(error) => error,
        };
        *place = match connection.rollback().await {
            Ok(()) => Some(connection),
            Err(_) => {
                // SQLite may have rolled back by itself, or the connection is gone: start afresh.
                discard(connection).await;
                None
            }
        };
        Err(error)
    }

    /// Runs a checkpoint statement on the connection kept for it.
    pub(super) async fn checkpoint(&self, kind: &Sql) -> Result<(), StoreError> {
        let mut place = self.checkpointer.lock().await;
        let mut connection = self.take(&mut place, Purpose::Checkpoint).await?;
        let done = connection.query(kind, vec![]).await;
        *place = keep(connection, is_broken(&done)).await;
        done.map(drop)
    }

    /// Waits for running jobs, then closes everything.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::Release);
        self.reader_permits.close();
        let readers = std::mem::take(&mut *self.idle_readers());
        for reader in readers {
            reader.close().await?;
        }
        if let Some(checkpointer) = self.checkpointer.lock().await.take() {
            checkpointer.close().await?;
        }
        match self.writer.lock().await.take() {
            Some(writer) => writer.close().await,
            None => Ok(()),
        }
    }

    /// Takes the connection out of `place`, or opens one.
    async fn take(
        &self,
        place: &mut Option<Connection>,
        purpose: Purpose,
    ) -> Result<Connection, StoreError> {
        if self.is_closed() {
            return Err(closed());
        }
        match place.take() {
            Some(connection) => Ok(connection),
            // A database in memory died with its connection; an empty new one would be a lie.
            None if self.target == Target::Memory => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the database in memory is lost",
            )),
            None => self.target.connect(&self.config, purpose).await,
        }
    }

    fn idle_readers(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the connection, or closes it if it is broken.
async fn keep(connection: Connection, broken: bool) -> Option<Connection> {
    if !broken {
        return Some(connection);
    }
    discard(connection).await;
    None
}

/// Says whether the answer tells that its connection is beyond use.
fn is_broken<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(error) if error.breaks_connection())
}

/// Closes a connection whose state is unknown. Its own errors have nothing to add.
async fn discard(connection: Connection) {
    let _ = connection.close().await;
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store is closed")
}
