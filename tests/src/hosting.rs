//! One node's hosting on a real SQLite database, without node, gateway or simulator around it.

use std::{path::Path, sync::Arc, time::Duration};

use actor_core::{
    Client, Component, NodeId, Registry, ShardId,
    hosting::{Hosting, HostingConfig},
    shards::Shards,
    store::{Executor, Store, StoreConfig, TaskExecutor, meta, migrate, nodes, ownership},
};

/// Shards of a test: few, so that entities share them.
pub const SHARDS: u32 = 8;

/// The lease of the registered node; nothing in these tests waits for its end.
const TTL: Duration = Duration::from_secs(10);

/// Opens `url` and hosts `C` on it as the only node.
///
/// # Panics
/// When the database cannot be opened: the test cannot go on.
pub async fn host<C: Component>(url: &str) -> Arc<Hosting> {
    host_with::<C>(url, Arc::new(TaskExecutor), |_| {}).await
}

/// As [`host`], with the executor the store's work goes through and changes to the configuration.
///
/// # Panics
/// As [`host`].
pub async fn host_with<C: Component>(
    url: &str,
    executor: Arc<dyn Executor>,
    change: impl FnOnce(&mut HostingConfig),
) -> Arc<Hosting> {
    let store = Store::open(StoreConfig::new(url), executor)
        .await
        .expect("the store opens");
    migrate::run(&store).await.expect("migrations run");
    meta::agree(&store, SHARDS).await.expect("one shard count");
    let node = NodeId::new("test");
    let (shards, clean) = own_all(&store, &node).await;
    let mut registry = Registry::default();
    C::install(&mut registry);
    let mut config = HostingConfig::new(registry, store, shards);
    config.former_life_unclean = !clean;
    change(&mut config);
    Hosting::start(config).await.expect("the hosting starts")
}

/// Registers the node's next life and takes all shards. Says whether the former life ended in
/// order.
async fn own_all(store: &Store, node: &NodeId) -> (Arc<Shards>, bool) {
    let name = node.clone();
    let registered = store.write("own all", move |c| {
        Box::pin(async move {
            ownership::ensure(c, SHARDS).await?;
            let incarnation = nodes::register(c, &name, "127.0.0.1:0", TTL).await?;
            let all: Vec<_> = (0..SHARDS).map(ShardId).collect();
            let taken =
                ownership::take(c, &all, &name, incarnation, &ownership::Seen::default()).await?;
            Ok((incarnation, taken))
        })
    });
    let (incarnation, taken) = registered.await.expect("the shards are free");
    let shards = Arc::new(Shards::new(SHARDS, node.clone(), incarnation));
    shards.hold_lease_unlimited();
    let clean = taken.iter().all(|taken| taken.released);
    for taken in taken {
        shards.grant(taken.shard, taken.epoch);
    }
    (shards, clean)
}

/// The URL of a database file in `folder`.
pub fn url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("test.db").display())
}

/// A database that only this test sees.
pub const MEMORY: &str = "sqlite::memory:";

/// A client of `hosting`.
pub fn client(hosting: &Arc<Hosting>) -> Client {
    Client::new(hosting.clone())
}
