//! The connections of one store: those that write, those that read, and what becomes of a broken
//! one.

mod places;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use self::places::Places;
use super::{
    StoreConfig,
    connection::Connection,
    error::{StoreError, StoreErrorKind},
    executor::{BoxFuture, Executor},
    open::{Purpose, Target},
    sql::Sql,
};
use crate::clock::{Clock, Instant};

/// The connections. Each is taken out of its place while a job uses it and put back only if it is
/// known to be in order, so a panic or a failed rollback never leaves one inside a transaction.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    config: StoreConfig,
    places: Places,
    readers: Mutex<VecDeque<Connection>>,
    reader_permits: Semaphore,
    checkpointer: AsyncMutex<Option<Connection>>,
    /// What transactions of a server begin with, made when first needed.
    openings: Mutex<BTreeMap<String, Arc<str>>>,
    /// What the server's clock said, and when that was by the monotonic one: this machine's time of
    /// day may step meanwhile.
    server_time: Mutex<Option<(Instant, i64)>>,
    /// Counts commits, so that a checkpoint knows whether the log grew.
    commits: AtomicU64,
    closed: AtomicBool,
}

impl Pool {
    /// Opens the writer and SQLite's readers, so that a bad database is found now.
    pub(super) async fn open(target: Target, config: StoreConfig) -> Result<Self, StoreError> {
        let writer = target.connect(&config, Purpose::Write).await?;
        let mut readers = VecDeque::new();
        if let Target::File(_) = target {
            for _ in 0..places::readers(&target) {
                readers.push_back(target.connect(&config, Purpose::Read).await?);
            }
        }
        Ok(Self {
            places: Places::new(&target, writer),
            reader_permits: Semaphore::new(places::readers(&target)),
            target,
            config,
            readers: Mutex::new(readers),
            checkpointer: AsyncMutex::new(None),
            openings: Mutex::default(),
            server_time: Mutex::default(),
            commits: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match &self.target {
            Target::File(path) => Some(path),
            Target::Memory | Target::Server(_) => None,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Returns the server's time, if it was ever asked, in milliseconds since 1970.
    pub(super) fn server_ms(&self) -> Option<i64> {
        let said = self.server_time.lock();
        let (seen, ms) = (*said.unwrap_or_else(PoisonError::into_inner))?;
        let since = Clock.now().saturating_duration_since(seen).as_millis();
        Some(ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX)))
    }

    /// Returns how many transactions were committed so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Runs `read` outside of any transaction that writes.
    pub(super) async fn read<T, F>(&self, executor: &dyn Executor, read: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        if let Target::Memory = self.target {
            let mut place = self.places.of(Purpose::Write).lock().await;
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
        let answer = self.read_on(&mut connection, read).await;
        let broken = is_broken(&answer) || connection.is_broken();
        if let Some(connection) = keep(connection, broken).await {
            self.idle_readers().push_back(connection);
        }
        answer
    }

    /// Reads; behind a pooler in a transaction, since consecutive statements outside of one may
    /// meet different connections of the server.
    async fn read_on<T, F>(&self, connection: &mut Connection, read: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        if !connection.is_pooled() {
            return read(connection).await;
        }
        connection.begin(self.opening(Purpose::Read)).await?;
        let answer = read(connection).await;
        // Nothing was written: how it ends does not matter, only that it does.
        if !connection.is_broken() {
            connection.rollback().await?;
        }
        answer
    }

    /// Runs `write` between `BEGIN` and `COMMIT`; an error of it rolls back.
    pub(super) async fn write<T, E, F>(
        &self,
        executor: &dyn Executor,
        purpose: Purpose,
        write: F,
    ) -> Result<T, E>
    where
        E: From<StoreError>,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, E>>,
    {
        let mut place = self.places.of(purpose).lock().await;
        let mut connection = self.begin(&mut place, executor, purpose).await?;
        let error = match write(&mut connection).await {
            Ok(answer) => match connection.commit().await {
                Ok(()) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    // Migrations are rare; a server's connection is not worth keeping for them.
                    let rare = purpose == Purpose::Migrate;
                    let spare = rare && matches!(self.target, Target::Server(_));
                    *place = keep(connection, spare).await;
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
        let kept = !connection.is_broken() && connection.rollback().await.is_ok();
        // If not, SQLite may have rolled back by itself, or the connection is gone: start afresh.
        *place = keep(connection, !kept).await;
        Err(error)
    }

    /// Takes a connection and begins a transaction on it.
    ///
    /// A connection that was cut while it was idle is found out here, where nothing has been done
    /// yet: the transaction begins on a new one.
    async fn begin(
        &self,
        place: &mut Option<Connection>,
        executor: &dyn Executor,
        purpose: Purpose,
    ) -> Result<Connection, StoreError> {
        let opening = self.opening(purpose);
        loop {
            let was_idle = place.is_some();
            let mut connection = self.take(place, purpose).await?;
            connection.set_now(executor.now_ms());
            let asked = Clock.now();
            match connection.begin(opening.clone()).await {
                Ok(time) => {
                    self.set_server_time(asked, time);
                    return Ok(connection);
                }
                Err(error) if was_idle && error.is_lost() => discard(connection).await,
                Err(error) => {
                    *place = keep(connection, error.breaks_connection()).await;
                    return Err(error);
                }
            }
        }
    }

    /// Remembers the server's time, if it said it; it did somewhere between being asked and now.
    fn set_server_time(&self, asked: Instant, time: Option<i64>) {
        if let Some(time) = time {
            let said = asked + Clock.now().saturating_duration_since(asked) / 2;
            *self
                .server_time
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some((said, time));
        }
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
        self.places.close().await
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
            Some(mut connection) => {
                // A transaction finds a dead connection out by itself; a read cannot be repeated.
                if purpose != Purpose::Read || connection.is_alive().await {
                    return Ok(connection);
                }
                discard(connection).await;
            }
            // A database in memory died with its connection; an empty new one would be a lie.
            None if matches!(self.target, Target::Memory) => {
                let message = "the database in memory is lost";
                return Err(StoreError::new(StoreErrorKind::Unavailable, message));
            }
            None => {}
        }
        // Boxed: it is rare and large, and every job would carry its size.
        Box::pin(self.target.connect(&self.config, purpose)).await
    }

    /// Returns what a transaction of this purpose begins with; `None` for SQLite.
    fn opening(&self, purpose: Purpose) -> Option<Arc<str>> {
        let Target::Server(server) = &self.target else {
            return None;
        };
        let mut openings = self.openings.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = openings
            .entry(purpose.to_string())
            .or_insert_with(|| server.opening(&self.config, purpose).into());
        Some(Arc::clone(opening))
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
