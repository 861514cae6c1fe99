//! What exists outside of all nodes: the database, and the test's ways to cluster and database.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use actor_core::{
    Client,
    clock::Clock,
    component::Registry,
    groups::Groups,
    hosting::{Hosting, HostingConfig},
    id::{Incarnation, NodeId},
    shards::Shards,
    store::{
        BoxFuture, Executor, Store, StoreConfig, TaskExecutor,
        executor::{Job, Lost},
        kinds, meta, migrate, nodes, ownership,
    },
};

use super::{
    super::{
        harness::Options,
        machine::Machine,
        shared::{Shared, rng},
        sockets::SimSockets,
        store::SimExecutor,
        wires::Host,
    },
    SECRET, SHARDS,
};
use crate::{
    node::Secret,
    routing::{
        LinkRouter, Peers,
        inbound::{Arrivals, Desk},
    },
    transport::{LinkConfig, Links, PeerId},
};

/// How often the test's client looks who owns what.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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

/// Makes the client of the test's body: it hosts nothing and reaches everything over links, as a
/// node does.
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
    let shards = Shards::new(SHARDS, NodeId::new(part.to_string()), Incarnation(1));
    let store = store.with_executor(Arc::new(executor));
    let groups = Arc::new(Groups::alone(SHARDS));
    let peers = links(shared, driver, &shards, groups.clone()).await;
    let aside = store.with_executor(Arc::new(Aside(shared.clone())));
    tokio::spawn(look(peers.clone(), aside));
    let mut config = HostingConfig::new(registry, store, Arc::new(shards));
    config.serves = false;
    config.groups = groups;
    config.rng = rng(shared.seed, "outside");
    config.router = Some(Arc::new(LinkRouter(peers)));
    let hosting = Hosting::start(config).await;
    Client::new(hosting.unwrap_or_else(|failure| panic!("the kinds cannot be hosted: {failure}")))
}

/// Opens the test's links. Nobody dials them: it is no member.
async fn links(
    shared: &Arc<Shared>,
    driver: &Machine,
    shards: &Shards,
    groups: Arc<Groups>,
) -> Arc<Peers> {
    let host = Host::from(driver.part);
    let sockets = SimSockets {
        shared: shared.clone(),
        part: driver.part,
        clock: driver.clock,
    };
    let me = PeerId {
        node: shards.node().clone(),
        incarnation: shards.incarnation(),
    };
    let bound = Links::bind_on(
        LinkConfig::new(Secret::new(SECRET)),
        me.node.clone(),
        host.address(),
        rng(shared.seed, "dials"),
        Arc::new(sockets),
    );
    let links = bound
        .await
        .expect("the port is free and the bounds are kept");
    let desk = Arc::new(Desk::default());
    links.open(me.incarnation, Arc::new(Arrivals(desk.clone())));
    let random = rng(shared.seed, "routes");
    Arc::new(Peers::new(me, groups, Arc::new(links), desk, random))
}

/// Keeps up with who is there and who owns what; sooner if a link comes or goes. It takes no time.
async fn look(peers: Arc<Peers>, store: Store) {
    let mut events = peers.links.events();
    loop {
        let read = store.read("shard map", |c| {
            Box::pin(async move {
                let (nodes, shards) = (nodes::list(c).await?, ownership::list(c).await?);
                Ok((nodes, shards, kinds::list(c).await?))
            })
        });
        if let Ok((nodes, shards, catalog)) = read.await {
            peers.groups.learn(catalog);
            peers.see(&nodes, &shards);
        }
        // Both arms only wait.
        tokio::select! {
            biased;
            _ = events.recv() => {}
            () = Clock.sleep(LOOK_EVERY) => {}
        }
    }
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
