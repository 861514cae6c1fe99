//! A node: one process that hosts kinds, and the way to reach them.
//!
//! ```
//! # use actor_cluster::Node;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), actor_cluster::StartError> {
//! let node = Node::builder().database_url("sqlite::memory:").start().await?;
//! let client = node.client(); // reaches the entities of all nodes
//! # drop(client);
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod cluster;
pub mod config;
pub mod error;
mod linked;
mod logging;
pub mod operations;
mod register;
pub(crate) mod start;

use std::{
    any::Any,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actor_core::{
    Client,
    component::{Component, Registry},
    hosting::{Hosting, Resources},
    id::{Incarnation, NodeId},
    store::{
        Store, lock::FileLock, machines, migrate::Migration, nodes::leave, ownership::release,
    },
};
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
};

use self::cluster::{Changes, What};
use self::linked::Met;
use self::start::{Environment, Parts};
pub use self::{
    cluster::Cluster,
    config::{HasSettings, LogFormat, Secret, SettingError, Settings, parse_or_exit},
    error::{StartError, StartErrorKind},
};
pub use crate::singleton::{SingletonState, SingletonStatus};
use crate::{
    membership::{Loss, drain::say_draining, task::Member},
    routing::Peers,
    singleton::{Roster, Singleton, Singletons},
    snowflake::Snowflakes,
    sweeper::Found,
    transport::Note,
};

/// How long peers may take to let go of the links of a node that left.
const LINKS_CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A running node. Cheap to clone; it runs until [`Node::shutdown`].
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hosting: Arc<Hosting>,
    /// The store, if the node opened it and closes it.
    store: Option<Store>,
    /// Held until the store is closed.
    lock: Mutex<Option<FileLock>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    phase: watch::Sender<Phase>,
    /// Its part in a cluster; `None` for a node that is alone.
    member: OnceLock<Member>,
    links: Mutex<Option<Met>>,
    changes: Changes,
    snowflakes: Arc<Snowflakes>,
    singletons: OnceLock<Singletons>,
    found: Found,
    left: OnceCell<Stopped>,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Ready,
    /// An operator drained it: its shards go to other nodes, and it goes on as a way to them.
    Resting,
    /// It lets work end and takes none, to stop.
    Draining,
    /// It ended in order.
    Stopped,
    /// It lost its lease and serves nothing any more; its program should end and start again.
    Lost(Loss),
}

/// How a node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Messages that were still running or queued when the drain timed out; 0 is a clean end.
    pub unfinished: usize,
}

/// Gathers what a node needs.
#[derive(Debug)]
#[must_use = "a node begins with `start`"]
pub struct NodeBuilder {
    parts: Parts,
}

impl Node {
    /// Begins a node with the default settings, whatever the environment says.
    pub fn builder() -> NodeBuilder {
        let parts = Parts {
            settings: Settings::default(),
            registry: Registry::default(),
            resources: Resources::default(),
            migrations: &[],
            residents_max: None,
            resident_bytes_max: None,
            roster: Roster::default(),
            environment: Environment::default(),
        };
        NodeBuilder { parts }
    }

    /// Begins a node with the settings of the environment.
    ///
    /// # Errors
    /// When a variable has a value that is not accepted.
    pub fn from_env() -> Result<NodeBuilder, SettingError> {
        Ok(Self::builder().settings(Settings::from_env()?))
    }

    /// Returns a client of this node.
    pub fn client(&self) -> Client {
        Client::new(self.inner.hosting.clone())
    }

    /// Returns the part that runs kinds, for gateways and dashboards.
    pub fn hosting(&self) -> &Arc<Hosting> {
        &self.inner.hosting
    }

    /// Returns the node's name.
    pub fn name(&self) -> &NodeId {
        self.inner.hosting.shards().node()
    }

    /// Returns which life of the node this is.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.hosting.shards().incarnation()
    }

    /// Returns the settings it was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Returns the node's part in its cluster, for operators: its links, its singletons, and what
    /// changed lately.
    pub fn cluster(&self) -> Cluster {
        let singletons = self.inner.singletons.get();
        Cluster {
            singletons: singletons.map_or_else(Vec::new, Singletons::status),
            stuck_unowned: self.inner.found.stuck(),
            links: self
                .peers()
                .map_or_else(Vec::new, |peers| peers.links.snapshot()),
            changes: self.inner.changes.latest(),
        }
    }

    /// Returns where the node is in its life.
    pub fn phase(&self) -> Phase {
        *self.inner.phase.borrow()
    }

    /// Says whether it takes work: readiness for a load balancer.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    /// Waits until the node serves nothing any more: stopped, or its lease lost.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&self) -> Phase {
        let mut phase = self.inner.phase.subscribe();
        let over = |phase: &Phase| matches!(phase, Phase::Stopped | Phase::Lost(_));
        match phase.wait_for(over).await {
            Ok(phase) => *phase,
            // The sender lives in the node itself.
            Err(_) => Phase::Stopped,
        }
    }

    /// Says it is not ready, refuses new work and waits until what runs has ended, at most
    /// `ACTOR_DRAIN_TIMEOUT`. Returns how many messages were left.
    pub async fn drain(&self) -> usize {
        let was = self.inner.phase.send_if_modified(|phase| {
            let ready = matches!(phase, Phase::Ready | Phase::Resting);
            if ready {
                *phase = Phase::Draining;
            }
            ready
        });
        if was {
            self.inner.changes.note(What::Drains);
        }
        if let Some(member) = self.inner.member.get() {
            member.drain(self.inner.settings.drain_timeout).await;
        } else if was && let Err(error) = say_draining(&self.inner.hosting).await {
            // Nobody could take anything; the drain goes on.
            tracing::warn!(%error, "the drain could not be announced");
        }
        if let Some(singletons) = self.inner.singletons.get() {
            // Before the rest: they may still call what runs here.
            singletons.stop(self.inner.settings.drain_timeout).await;
        }
        self.inner
            .hosting
            .drain(self.inner.settings.drain_timeout)
            .await
    }

    /// Drains, gives up its shards, says that it left and closes the database. A second call waits
    /// for the first.
    ///
    /// # Cancel safety
    /// A shutdown that is dropped half-way goes on with the next call; nothing durable is lost.
    pub async fn shutdown(&self) -> Stopped {
        *self.inner.left.get_or_init(|| self.stop()).await
    }

    async fn stop(&self) -> Stopped {
        let lost = matches!(self.phase(), Phase::Lost(_));
        let unfinished = if lost { 0 } else { self.drain().await };
        self.inner.hosting.stop().await;
        for task in self.tasks().drain(..) {
            // Their SQL runs in jobs of its own and ends.
            task.abort();
        }
        if !lost && let Err(error) = self.leave().await {
            tracing::warn!(%error, "the node could not say that it left");
        }
        let links = self
            .inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(met) = links {
            met.peers.tell_all(&Note::Released);
            met.close(LINKS_CLOSE_WITHIN).await;
        }
        if let Some(store) = &self.inner.store
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "the database could not be closed in order");
        }
        drop(
            self.inner
                .lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.inner.phase.send_replace(Phase::Stopped);
        tracing::info!(node = %self.name(), unfinished, "the node stopped");
        Stopped { unfinished }
    }

    /// Returns the way to the other nodes, if it has links.
    pub(crate) fn peers(&self) -> Option<Arc<Peers>> {
        let links = self.inner.links.lock();
        let links = links.unwrap_or_else(PoisonError::into_inner);
        links.as_ref().map(|met| met.peers.clone())
    }

    async fn leave(&self) -> Result<(), actor_core::store::StoreError> {
        let (node, life) = (self.name().clone(), self.incarnation());
        let shards = self.inner.hosting.shards();
        let owned = shards.owned();
        shards.revoke_all();
        let last_id_ms = self.inner.snowflakes.close();
        let left = self.inner.hosting.store().write("leave", move |c| {
            Box::pin(async move {
                release(c, &owned, &node, life).await?;
                if let Some(last_ms) = last_id_ms {
                    machines::release(c, &node, life, last_ms).await?;
                }
                leave(c, &node, life).await
            })
        });
        left.await.map(drop)
    }

    fn own(&self, task: JoinHandle<()>) {
        self.tasks().push(task);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeBuilder {
    /// Uses these settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.parts.settings = settings;
        self
    }

    /// Uses this database: `sqlite://PATH`, or `sqlite::memory:` for tests.
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.parts.settings.database_url = url.into();
        self
    }

    /// Sets how large the node's part of the shards is beside those of others: `ACTOR_WEIGHT`.
    /// Default 1; above 100 counts as 100. With 0 it owns nothing and only sends.
    pub fn weight(mut self, weight: u32) -> Self {
        self.parts.settings.weight = weight.min(100);
        self
    }

    /// Gives handlers a value; they reach it by its type with `ctx.resource::<T>()`.
    pub fn provide<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.parts.resources.insert(value);
        self
    }

    /// Hosts a kind, or a tuple of kinds.
    pub fn host<C: Component>(mut self) -> Self {
        C::install(&mut self.parts.registry);
        self
    }

    /// Runs `body` at exactly one node of the cluster: while it runs here, no other node runs a
    /// singleton of this name. Give it to every node, like a kind: it runs where a hash of its name
    /// says, and not at all while that node was built without it.
    ///
    /// An `Err` or a panic starts it again after a pause of 1 s, doubling to 60 s. `Ok` means that
    /// it is done, until its shard has another owner. [The guide](crate::docs::once) says more.
    pub fn singleton<F, R>(mut self, name: &str, body: F) -> Self
    where
        F: Fn(Singleton) -> R + Send + Sync + 'static,
        R: Future<Output = actor_core::Result<()>> + Send + 'static,
    {
        self.parts.roster.add(name, body);
        self
    }

    /// Brings tables of the program's own up to date before the node serves, each migration once,
    /// whichever node starts first. One that the database has must not be taken out or changed.
    /// Default: none.
    pub fn migrations(mut self, own: &'static [Migration]) -> Self {
        self.parts.migrations = own;
        self
    }

    /// Keeps at most this many activations in memory; default 100 000. Above it idle ones leave,
    /// and if none is idle, calls that need one more end as `Overloaded`.
    pub fn residents_max(mut self, most: usize) -> Self {
        self.parts.residents_max = Some(most);
        self
    }

    /// Keeps activations of at most this many bytes in memory, counting 16 KiB and twice the
    /// stored state for each; what a volatile entity holds is not known. Default: a quarter of the
    /// memory of the machine or control group; at least 1 MiB. At the bound as for
    /// [`residents_max`](Self::residents_max).
    pub fn resident_bytes_max(mut self, most: usize) -> Self {
        self.parts.resident_bytes_max = Some(most);
        self
    }

    /// Starts the node; it serves when this returns.
    ///
    /// # Errors
    /// One line that says what has to change; a program should end with
    /// [`StartError::exit_code`].
    pub async fn start(self) -> Result<Node, StartError> {
        start::start(self.parts).await
    }

    /// Starts the node; prints why it cannot and ends the program.
    pub async fn start_or_exit(self) -> Node {
        match self.start().await {
            Ok(node) => node,
            Err(error) => error.exit(),
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn environment(mut self, environment: Environment) -> Self {
        self.parts.environment = environment;
        self
    }

    #[cfg(feature = "sim")]
    pub(crate) fn singletons(mut self, roster: Roster) -> Self {
        self.parts.roster = roster;
        self
    }

    #[cfg(feature = "sim")]
    pub(crate) fn kinds(mut self, install: fn(&mut Registry), resources: Resources) -> Self {
        install(&mut self.parts.registry);
        self.parts.resources = resources;
        self
    }
}
