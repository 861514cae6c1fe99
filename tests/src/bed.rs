//! A fresh database with one registered node and its lanes, on every backend we support.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_core::{
    clock::Rng,
    id::{EntityId, EntityKey, Epoch, Incarnation, NodeId, ShardId},
    shards::Shards,
    store::{
        Announced, BoxFuture, Connection, Dialect, Executor as _, LaneConfig, Lanes, Store,
        StoreConfig, StoreError, Verdict, Write, entities::Place, meta, migrate, nodes, ownership,
    },
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{fault::FaultExecutor, postgres::Postgres};

/// How many shards a bed has.
pub const SHARDS: u32 = 8;

/// How long a lease of a bed's nodes is.
pub const TTL: Duration = Duration::from_secs(10);

/// A fresh database.
#[derive(Debug)]
pub struct Backend {
    /// The address to open.
    pub url: String,
    /// Deleted with the backend.
    pub folder: TempDir,
}

impl Backend {
    /// Returns a SQLite file.
    ///
    /// # Panics
    /// When there is no folder to make: the test cannot go on.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self { url, folder }
    }

    /// Returns a schema of its own on the tests' PostgreSQL server.
    ///
    /// One lane: tests decide what meets in a batch. `parameters` are added to the address.
    ///
    /// # Panics
    /// When the server does not start: the test cannot go on.
    pub fn postgres(parameters: &str) -> Self {
        Self::at(&Postgres::get().url, parameters)
    }

    /// Returns the same by way of the pooler.
    ///
    /// # Panics
    /// When the server does not start: the test cannot go on.
    pub fn pooled(parameters: &str) -> Self {
        let parameters = format!("pooler=transaction&{parameters}");
        Self::at(&Postgres::get().pooler_url, &parameters)
    }

    /// Returns a schema of its own on a PostgreSQL server at this address.
    ///
    /// # Panics
    /// When there is no folder to make: the test cannot go on.
    pub fn at(address: &str, parameters: &str) -> Self {
        let schema = Postgres::new_schema();
        let url = format!("{address}?schema={schema}&lanes=1&{parameters}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { url, folder }
    }
}

/// Runs a test once against a fresh SQLite file.
///
/// # Errors
/// What the test returned.
pub async fn on_sqlite<E>(mut test: impl AsyncFnMut(Backend) -> Result<(), E>) -> Result<(), E> {
    test(Backend::sqlite()).await
}

/// Runs a test once against a fresh schema of PostgreSQL, and once by way of PgBouncer.
///
/// # Errors
/// What the test returned.
pub async fn on_postgres<E>(mut test: impl AsyncFnMut(Backend) -> Result<(), E>) -> Result<(), E> {
    // Shown with a failure: which of the two it was.
    println!("PostgreSQL, directly:");
    test(Backend::postgres("")).await?;
    println!("PostgreSQL, pooled:");
    test(Backend::pooled("")).await
}

/// The bounds of a bed that tests make small.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// As in [`StoreConfig`].
    pub busy_timeout: Duration,
    /// As in [`StoreConfig`].
    pub statement_timeout: Duration,
    /// As in [`StoreConfig`]; leases of a bed are [`TTL`] long all the same.
    pub lease_ttl: Duration,
    /// As in [`LaneConfig`].
    pub queue_items_max: usize,
    /// As in [`LaneConfig`].
    pub batch_items_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            lease_ttl: TTL,
            queue_items_max: 8192,
            batch_items_max: 512,
        }
    }
}

/// A database with its schema, one live node that owns all shards, and its lanes.
#[derive(Debug)]
pub struct Bed {
    /// The database; declared first, so that its folder goes last.
    pub store: Store,
    /// What becomes of jobs.
    pub fault: Arc<FaultExecutor>,
    /// What the node owns.
    pub shards: Arc<Shards>,
    /// The node's lanes.
    pub lanes: Lanes,
    events: Arc<Mutex<Vec<Announced>>>,
    activations: AtomicU64,
    backend: Backend,
}

impl Bed {
    /// Makes a bed.
    ///
    /// # Errors
    /// When the store refuses a step.
    pub async fn new(backend: Backend) -> Result<Self, StoreError> {
        Self::with(backend, Bounds::default()).await
    }

    /// Makes a bed with other bounds.
    ///
    /// # Errors
    /// When the store refuses a step.
    pub async fn with(backend: Backend, bounds: Bounds) -> Result<Self, StoreError> {
        let fault = Arc::new(FaultExecutor::default());
        let store = open(&backend, bounds, fault.clone()).await?;
        if store.dialect() == Dialect::Postgres {
            let clock = open(&backend, Bounds::default(), Arc::default()).await?;
            fault.move_clock_of(clock).await?;
        }
        let shards = join(&store, "a").await?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let hook = Arc::new(move |announced: Vec<Announced>| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.extend(announced);
        });
        let mut config = LaneConfig::new(store.clone(), shards.clone(), Rng::seeded(7), hook);
        config.queue_items_max = bounds.queue_items_max;
        config.batch_items_max = bounds.batch_items_max;
        Ok(Self {
            lanes: Lanes::start(config),
            store,
            fault,
            shards,
            events,
            activations: AtomicU64::new(1),
            backend,
        })
    }

    /// Opens the database a second time, as another process would.
    ///
    /// # Errors
    /// When the store refuses a step.
    pub async fn second_store(&self) -> Result<Store, StoreError> {
        open(&self.backend, Bounds::default(), Arc::default()).await
    }

    /// Opens the database as a node does whose own clock is wrong by so much; returns that clock,
    /// too.
    ///
    /// # Errors
    /// When the store refuses a step.
    pub async fn store_of_a_node_that_is_off_by(
        &self,
        ms: i64,
    ) -> Result<(Store, Arc<FaultExecutor>), StoreError> {
        let fault = Arc::<FaultExecutor>::default();
        fault.advance_ms(self.fault.now_ms() - fault.now_ms() + ms);
        let store = open(&self.backend, Bounds::default(), fault.clone()).await?;
        Ok((store, fault))
    }

    /// Returns a new activation number.
    pub fn activation(&self) -> u64 {
        self.activations.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the place of cart `id`.
    pub fn cart(&self, id: &str) -> Place {
        let kind = "cart";
        let key = EntityKey {
            kind,
            id: EntityId::from(id),
        };
        Place::new(&key, ShardId::of(kind, id, SHARDS))
    }

    /// Returns the epoch under which the node owns `shard`; 0 if it does not.
    pub fn epoch(&self, shard: ShardId) -> Epoch {
        self.shards.epoch(shard).unwrap_or(Epoch(0))
    }

    /// Submits writes of an activation under the present epoch; the answer comes later.
    pub fn submit(
        &self,
        shard: ShardId,
        activation: u64,
        writes: Vec<Write>,
    ) -> oneshot::Receiver<Verdict> {
        self.submit_under(shard, self.epoch(shard), activation, writes)
    }

    /// Submits writes of an activation under an epoch.
    pub fn submit_under(
        &self,
        shard: ShardId,
        epoch: Epoch,
        activation: u64,
        writes: Vec<Write>,
    ) -> oneshot::Receiver<Verdict> {
        let (sender, verdict) = oneshot::channel();
        let done = Box::new(move |verdict| drop(sender.send(verdict)));
        self.lanes.submit(actor_core::store::Item {
            shard,
            epoch,
            activation,
            sequence: 1,
            writes,
            done,
        });
        verdict
    }

    /// Commits writes of a new activation under the present epoch.
    pub async fn commit(&self, shard: ShardId, writes: Vec<Write>) -> Verdict {
        let (epoch, activation) = (self.epoch(shard), self.activation());
        self.lanes.commit(shard, epoch, activation, writes).await
    }

    /// Runs statements in a transaction of their own.
    ///
    /// # Errors
    /// What the statements returned.
    pub async fn sql<T: Send + 'static>(
        &self,
        run: impl for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, StoreError>>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        self.store.write("test", run).await
    }

    /// Returns the events announced so far.
    pub fn events(&self) -> Vec<Announced> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Opens a database and brings its schema up to date.
///
/// # Errors
/// When the store refuses a step.
pub async fn open(
    backend: &Backend,
    bounds: Bounds,
    fault: Arc<FaultExecutor>,
) -> Result<Store, StoreError> {
    let mut config = StoreConfig::new(backend.url.clone());
    config.checkpoint_every = Duration::ZERO;
    config.busy_timeout = bounds.busy_timeout;
    config.statement_timeout = bounds.statement_timeout;
    config.lease_ttl = bounds.lease_ttl;
    let store = Store::open(config, fault).await?;
    migrate::run(&store).await?;
    meta::agree(&store, SHARDS).await?;
    Ok(store)
}

/// Registers a node and takes all free shards.
///
/// # Errors
/// When the store refuses a step.
pub async fn join(store: &Store, node: &str) -> Result<Arc<Shards>, StoreError> {
    let node = NodeId::new(node);
    let (name, all) = (node.clone(), (0..SHARDS).map(ShardId).collect::<Vec<_>>());
    let joined = store.write("join", move |c| {
        Box::pin(async move {
            ownership::ensure(c, SHARDS).await?;
            let incarnation: Incarnation = nodes::register(c, &name, "", TTL).await?;
            let taken =
                ownership::take(c, &all, &name, incarnation, &ownership::Seen::default()).await?;
            Ok((incarnation, taken))
        })
    });
    let (incarnation, taken) = joined.await?;
    let shards = Arc::new(Shards::new(SHARDS, node, incarnation));
    for taken in taken {
        shards.grant(taken.shard, taken.epoch);
    }
    Ok(shards)
}
