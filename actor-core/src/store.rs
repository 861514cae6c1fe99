//! The database: connections, schema, ownership rows and group commit.
//!
//! Read in the order of the modules. Everything above [`connection`] is the same for every dialect.
//! Not here: what is stored for an entity and when; that is the host's.

pub mod error;
pub mod row;
pub mod sql;
pub mod value;

pub mod connection;
pub mod executor;
mod open;
mod pool;
mod postgres;

mod checkpoint;
pub mod lock;
pub mod machines;
pub mod meta;
pub mod migrate;

pub mod declined;
pub mod kinds;
pub mod nodes;
pub mod ownership;
pub mod suspicions;

pub mod lane;
pub mod statement;

pub mod dead_letters;
pub mod entities;
pub mod mailbox;
pub mod replies;
pub mod tables;
pub mod topics;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::oneshot;

pub use self::{
    connection::Connection,
    error::{StoreError, StoreErrorKind},
    executor::{BoxFuture, Executor, TaskExecutor},
    lane::{Announced, EventHook, Item, LaneConfig, Lanes, Verdict, Write},
    row::Row,
    sql::{Dialect, Sql},
    statement::Statement,
    value::Value,
};
use self::{
    executor::Lost,
    open::{Purpose, Target},
    pool::Pool,
};

/// How to open a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Where the database is: `sqlite://path`, `sqlite::memory:` for tests, or
    /// `postgres://user:password@host:port/database`.
    ///
    /// For Postgres these parameters may follow, beside those of the connection itself, such as
    /// `sslmode`: `schema=NAME`, where our tables are (default: what the user's search path says);
    /// `pooler=transaction` behind a pooler that hands connections out by the transaction;
    /// `lanes=N`, how many transactions commit side by side (default: 4, at most 64).
    pub url: String,
    /// Whether a missing file is created. Default: true.
    pub create: bool,
    /// Whether each commit waits for the disk (`synchronous=FULL`, `synchronous_commit=on`).
    /// Default: true. Without it a loss of power may take back acknowledged commits; the database
    /// stays consistent.
    pub sync: bool,
    /// How long a statement waits for another process's transaction. Default: 5 s.
    pub busy_timeout: Duration,
    /// How long a statement may take on a server, which ends it then. Default: 5 s.
    pub statement_timeout: Duration,
    /// How long opening a connection to a server may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a lease is. An open transaction whose node says nothing for a third of it, or for
    /// 2 s, is ended by the server. Default: 10 s.
    pub lease_ttl: Duration,
    /// How often the write-ahead log is written back into the file; zero never does. Default: 1 s.
    pub checkpoint_every: Duration,
    /// The size in bytes above which the log is emptied and cut. Default: 64 MiB.
    pub log_bytes_max: u64,
}

impl StoreConfig {
    /// Returns the default configuration for this database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            create: true,
            sync: true,
            busy_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(10),
            checkpoint_every: Duration::from_secs(1),
            log_bytes_max: 64 * 1024 * 1024,
        }
    }

    /// Says whether the address is one that [`Store::open`] understands; connects nowhere.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`], saying what is accepted, without any password.
    pub fn check(&self) -> Result<(), StoreError> {
        Target::parse(self).map(drop)
    }
}

/// An open database. Cheap to clone.
///
/// SQLite: one connection writes, in immediate transactions, first come first served; two more
/// read. In memory the writer also reads, since nothing else can see it.
///
/// Postgres: each lane has a connection, the lease has one, one writes everything else, four read.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Arc<Pool>,
    executor: Arc<dyn Executor>,
}

impl Store {
    /// Opens the database and, for a file, starts the task that writes its log back.
    ///
    /// It does not create tables; see [`migrate::run`].
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`], naming the file and the cause.
    pub async fn open(
        config: StoreConfig,
        executor: Arc<dyn Executor>,
    ) -> Result<Self, StoreError> {
        let target = Target::parse(&config)?;
        let opening = async move { Pool::open(target, config).await };
        let pool = Arc::new(submit(&executor, "open", opening).await??);
        let store = Self { pool, executor };
        checkpoint::start(&store);
        Ok(store)
    }

    /// Returns the same connections behind another executor, such as another node's in a
    /// simulation.
    #[must_use]
    pub fn with_executor(&self, executor: Arc<dyn Executor>) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            executor,
        }
    }

    /// Runs `read` on a connection that does not write. Each statement sees its own snapshot.
    ///
    /// # Errors
    /// What `read` returned, or [`StoreErrorKind::Unavailable`].
    ///
    /// # Cancel safety
    /// Dropping the future does not stop a read that has begun.
    pub async fn read<T, F>(&self, label: &'static str, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (pool, executor) = (Arc::clone(&self.pool), Arc::clone(&self.executor));
        let job = async move { pool.read(executor.as_ref(), read).await };
        match submit(&self.executor, label, job).await {
            Ok(answer) => answer,
            // A read that got lost changed nothing, whether or not it ran.
            Err(error) => Err(StoreError::new(StoreErrorKind::Unavailable, error)),
        }
    }

    /// Runs `write` in one transaction and commits what it did if it returns `Ok`.
    ///
    /// # Errors
    /// What `write` returned, with everything rolled back; [`StoreErrorKind::Unclear`] when the
    /// commit's end is unknown; [`StoreErrorKind::Busy`] or [`StoreErrorKind::Unavailable`] when
    /// nothing was stored.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop a transaction that has begun.
    pub async fn write<T, F>(&self, label: &'static str, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.transact(Purpose::Write, label, write).await
    }

    /// Like [`Store::write`], for what keeps the lease: on a server it has a connection to itself,
    /// so that it waits for no other work, and it compares the clocks for [`Store::now_ms`].
    ///
    /// # Errors
    /// As [`Store::write`].
    ///
    /// # Cancel safety
    /// Dropping the future does not stop a transaction that has begun.
    pub async fn write_lease<T, F>(&self, label: &'static str, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.transact(Purpose::Lease, label, write).await
    }

    /// Like [`Store::write`], on the connection for `purpose`, and for closures that end a
    /// transaction for reasons of their own.
    async fn transact<T, E, F>(
        &self,
        purpose: Purpose,
        label: &'static str,
        write: F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let (pool, executor) = (Arc::clone(&self.pool), Arc::clone(&self.executor));
        let job = async move { pool.write(executor.as_ref(), purpose, write).await };
        submit(&self.executor, label, job).await?
    }

    /// Returns the database's time in milliseconds since 1970.
    ///
    /// For display and for times given by people; rows get theirs from [`Value::FromNow`]. For a
    /// server it is what the last [`Store::write_lease`] saw and the time that has passed since,
    /// off by half a round trip. Before the first one it is this machine's time of day.
    pub fn now_ms(&self) -> i64 {
        let server_ms = self.pool.server_ms();
        server_ms.unwrap_or_else(|| self.executor.now_ms())
    }

    /// Returns which SQL the database speaks.
    pub fn dialect(&self) -> Dialect {
        match self.pool.target() {
            Target::Memory | Target::File(_) => Dialect::Sqlite,
            Target::Server(_) => Dialect::Postgres,
        }
    }

    /// Returns how many lanes may commit side by side.
    pub fn lanes(&self) -> usize {
        match self.pool.target() {
            Target::Memory | Target::File(_) => 1,
            Target::Server(server) => server.lanes(),
        }
    }

    /// Returns the schema our tables are in, if the address names one.
    pub fn schema(&self) -> Option<&str> {
        match self.pool.target() {
            Target::Memory | Target::File(_) => None,
            Target::Server(server) => server.schema(),
        }
    }

    /// Returns the database's file; `None` in memory and on a server.
    pub fn file(&self) -> Option<&Path> {
        self.pool.file()
    }

    /// Writes SQLite's log back into its file, as the task does every
    /// [`checkpoint_every`](StoreConfig::checkpoint_every); does nothing in memory.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let pool = Arc::clone(&self.pool);
        submit(&self.executor, "checkpoint", async move {
            checkpoint::once(&pool).await
        })
        .await?
    }

    /// Waits for running jobs and closes all connections; later jobs end as `Unavailable`.
    ///
    /// # Errors
    /// When the database could not be closed in order; its content is safe then, too.
    pub async fn close(&self) -> Result<(), StoreError> {
        let pool = Arc::clone(&self.pool);
        submit(&self.executor, "close", async move { pool.close().await }).await?
    }
}

/// Hands a job to the executor and waits for the answer the executor lets through.
async fn submit<T: Send + 'static>(
    executor: &Arc<dyn Executor>,
    label: &'static str,
    job: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, answer) = oneshot::channel();
    let job = Box::pin(async move {
        // Nobody waits any more: the job was right to end all the same.
        let _ = sender.send(job.await);
    });
    let lost = |why: &str| StoreError::new(StoreErrorKind::Unclear, why);
    match executor.run(label, job).await {
        Ok(()) => answer
            .await
            .map_err(|_| lost("the job ended without an answer")),
        Err(Lost::Job(why)) => Err(StoreError::new(StoreErrorKind::Unavailable, why)),
        Err(Lost::Answer(why)) => Err(lost(&why)),
    }
}
