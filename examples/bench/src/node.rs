//! A node for a workload, over a database of its own.

use actor_cluster::NodeBuilder;
use actor_core::{Client, Result};
use tempfile::TempDir;

use crate::arguments::Plan;

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

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: Client,
    _node: actor_cluster::Node,
    _database: Database,
}

impl Node {
    /// Starts a node that `with` gave its kinds, with room for `residents` entities.
    pub(crate) async fn start(
        plan: &Plan,
        residents: u32,
        with: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Result<Self> {
        let database = Database::of(plan)?;
        let builder = actor_cluster::Node::builder().database_url(&database.url);
        // One more: some workloads begin with an entity that is not counted.
        let node = with(builder.residents_max(residents as usize + 1))
            .start()
            .await?;
        Ok(Self {
            client: node.client(),
            _node: node,
            _database: database,
        })
    }
}
