//! A node for a workload: the framework's own parts over a fresh database, without sockets.

use std::{sync::Arc, time::Duration};

use actor_core::{
    Client, Component, NodeId, Registry, Result, ShardId,
    hosting::{Hosting, HostingConfig, Resources},
    shards::Shards,
    store::{Store, StoreConfig, TaskExecutor, migrate, nodes, ownership},
};
use tempfile::TempDir;

use crate::arguments::Plan;

/// As many shards as a node has by default.
const SHARDS: u32 = 512;

const LEASE_TTL: Duration = Duration::from_secs(10);

/// A database and where it is; a temporary one is deleted with it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Database {
    /// Returns the plan's database, or a new file.
    pub(crate) fn of(plan: &Plan) -> Result<Self> {
        if let Some(url) = &plan.database_url {
            return Ok(Self {
                url: url.clone(),
                _folder: None,
            });
        }
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}", folder.path().join("bench.db").display());
        Ok(Self {
            url,
            _folder: Some(folder),
        })
    }

    /// Opens it, with all tables.
    pub(crate) async fn open(&self) -> Result<Store> {
        let store = Store::open(StoreConfig::new(&self.url), Arc::new(TaskExecutor)).await?;
        migrate::run(&store).await?;
        Ok(store)
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: Client,
    _database: Database,
}

impl Node {
    /// Starts a node that hosts `C`, with room for `residents` entities.
    pub(crate) async fn start<C: Component>(
        plan: &Plan,
        resources: Resources,
        residents: u32,
    ) -> Result<Self> {
        let database = Database::of(plan)?;
        let store = database.open().await?;
        let shards = own_everything(&store).await?;
        let mut registry = Registry::default();
        C::install(&mut registry);
        let mut config = HostingConfig::new(registry, store, shards);
        config.resources = resources;
        config.residents_max = config.residents_max.max(residents as usize);
        let hosting = Hosting::start(config).await?;
        Ok(Self {
            client: Client::new(hosting),
            _database: database,
        })
    }
}

/// Registers this process and takes all shards, as a node that is alone does.
pub(crate) async fn own_everything(store: &Store) -> Result<Arc<Shards>> {
    let owned = store.write("take shards", |c| {
        Box::pin(async move {
            let node = NodeId::new("bench");
            let incarnation = nodes::register(c, &node, "", LEASE_TTL).await?;
            ownership::ensure(c, SHARDS).await?;
            let all: Vec<ShardId> = (0..SHARDS).map(ShardId).collect();
            let taken = ownership::take(c, &all, &node, incarnation, LEASE_TTL).await?;
            Ok((node, incarnation, taken))
        })
    });
    let (node, incarnation, taken) = owned.await?;
    let shards = Shards::new(SHARDS, node, incarnation);
    for taken in taken {
        shards.grant(taken.shard, taken.epoch);
    }
    shards.hold_lease_unlimited();
    Ok(Arc::new(shards))
}
