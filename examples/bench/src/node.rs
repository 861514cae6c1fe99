//! A node for a workload, over a database of its own, and the nodes beside it.

use actor_cluster::{NodeBuilder, Settings};
use actor_core::{Client, Result};
use tempfile::TempDir;

use crate::{
    arguments::Plan,
    cluster::{self, Companion},
};

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
}

/// A running node, with as many beside it as the plan says.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: Client,
    /// The others; they end with this.
    pub(crate) companions: Vec<Companion>,
    _node: actor_cluster::Node,
    _database: Database,
}

impl Node {
    /// Starts a node that `with` gave its kinds, with room for `residents` entities. With others
    /// beside it, it returns when each has its part of the shards.
    pub(crate) async fn start(
        plan: &Plan,
        residents: u32,
        with: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Result<Self> {
        let database = Database::of(plan)?;
        let nodes = plan.nodes;
        // One more: some workloads begin with an entity that is not counted.
        let residents = residents + 1;
        let mut companions = Vec::new();
        for number in 1..nodes {
            let companion = Companion::launch(plan, &database.url, residents, number)?;
            companions.push(companion);
        }
        for companion in &mut companions {
            companion.up().await?;
        }
        let flags = cluster::flags(plan, &database.url, 0);
        let settings = Settings::from_arguments(flags.iter().map(String::as_str))?;
        let builder = actor_cluster::Node::builder().settings(settings);
        let node = with(builder.residents_max(residents as usize))
            .start()
            .await?;
        let client = node.client();
        if nodes > 1 {
            // Three looks of every node: what was to move has moved.
            let rest = plan.lease_ttl * 3 / 10;
            cluster::settled(client.hosting().store(), nodes, rest).await?;
        }
        Ok(Self {
            client,
            companions,
            _node: node,
            _database: database,
        })
    }

    /// Says whether an entity's shard is another node's.
    pub(crate) fn is_remote(&self, kind: &str, id: &str) -> bool {
        let hosting = self.client.hosting();
        !hosting.shards().serves(hosting.shard_of(kind, id))
    }
}
