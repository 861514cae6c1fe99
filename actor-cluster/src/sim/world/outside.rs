//! What exists outside of all nodes: the database, and the test's ways to cluster and database.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use actor_core::{
    Client,
    component::Registry,
    hosting::{Hosting, HostingConfig},
    id::{Incarnation, NodeId},
    shards::Shards,
    store::{
        BoxFuture, Executor, Store, StoreConfig, TaskExecutor,
        executor::{Job, Lost},
        meta, migrate,
    },
};

use super::{
    super::{
        harness::Options,
        machine::Machine,
        router::SimRouter,
        shared::{Shared, rng},
        store::SimExecutor,
    },
    SHARDS,
};

/// Opens the world's database, ready for nodes.
pub(super) async fn open() -> Store {
    let mut config = StoreConfig::new("sqlite::memory:");
    config.checkpoint_every = Duration::ZERO;
    let store = Store::open(config, Arc::new(TaskExecutor)).await;
    let store = store.expect("a database in memory opens");
    migrate::run(&store)
        .await
        .expect("an empty database takes all migrations");
    meta::agree(&store, SHARDS)
        .await
        .expect("an empty database agrees");
    store
}

/// Makes the client of the test's body: it hosts nothing and reaches everything through the
/// network.
pub(super) async fn client(
    options: &Options,
    shared: &Arc<Shared>,
    driver: &Machine,
    store: &Store,
) -> Client {
    let mut registry = Registry::default();
    (options.host)(&mut registry);
    let (part, clock, cut) = (driver.part, driver.clock, driver.cut.clone());
    let executor = SimExecutor::new(shared.clone(), part, clock, cut);
    let shards = Shards::new(SHARDS, NodeId::new(part.to_string()), Incarnation(0));
    let store = store.with_executor(Arc::new(executor));
    let mut config = HostingConfig::new(registry, store, Arc::new(shards));
    config.serves = false;
    config.rng = rng(shared.seed, "outside");
    let random = rng(shared.seed, "routes");
    config.router = Some(Arc::new(SimRouter::new(
        shared.clone(),
        part,
        clock,
        random,
    )));
    let hosting = Hosting::start(config).await;
    Client::new(hosting.unwrap_or_else(|failure| panic!("the kinds cannot be hosted: {failure}")))
}

/// The test's own look into the database: at once, whatever the nodes' faults.
#[derive(Debug)]
pub(super) struct Aside(pub(super) Arc<Shared>);

impl Executor for Aside {
    fn run(&self, _: &'static str, job: Job) -> BoxFuture<'static, Result<(), Lost>> {
        let (sender, ended) = mpsc::sync_channel(1);
        drop(self.0.real.spawn(async move {
            job.await;
            // The world waits for it below; it cannot be gone.
            let _ = sender.send(());
        }));
        let lost = "the call panicked";
        let done = ended.recv();
        let answer = done.map_err(|_| Lost::Answer(lost.into()));
        Box::pin(std::future::ready(answer))
    }

    fn now_ms(&self) -> i64 {
        self.0.database_ms_last()
    }
}
