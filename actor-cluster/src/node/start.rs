//! From settings to a serving node (architecture D1, D9).
//!
//! Few statements, because a start should take less than 300 ms: one transaction registers the node
//! and takes what it may take.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use actor_core::{
    clock::{Clock, Instant, Rng},
    component::Registry,
    hosting::{Hosting, HostingConfig, Resources},
    id::NodeId,
    router::{Probe, Router},
    shards::Shards,
    store::{
        Dialect, Store, StoreConfig, StoreError, TaskExecutor,
        lock::{FileLock, LockError},
        meta,
        migrate::{self, Migration},
    },
};
use tokio::sync::{OnceCell, watch};

use super::{
    Inner, Node, Phase, Settings, StartError,
    register::{Brings, others, outlive, register},
};
use crate::{
    membership::{Terms, task::Member},
    node::{
        cluster::Changes,
        linked::{Linked, Met},
    },
    routing::LinkRouter,
    singleton::{Roster, Singletons},
    snowflake::Snowflakes,
    sweeper::{self, Found},
    transport::socket::{Sockets, Tcp},
};

/// How often a node that waits for its peers looks for them.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a node runs: production has the default, a simulation provides all of it.
#[derive(Debug)]
pub(crate) struct Environment {
    /// An open store that belongs to somebody else; `None` opens the one of the settings.
    pub(crate) store: Option<Store>,
    pub(crate) life: Life,
    pub(crate) rng: Rng,
    pub(crate) sockets: Arc<dyn Sockets>,
    pub(crate) probe: Option<Arc<dyn Probe>>,
}

/// What proves that a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is alone: an operating system lock beside the database file, or a database in memory.
    Alone,
    /// A lease. The node waits a little for this many nodes to be up before it takes shards.
    Lease { expected: usize },
}

impl Life {
    /// Returns what proves it on this database: PostgreSQL is for several nodes.
    fn on(self, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Postgres => Self::Lease { expected: 1 },
            _ => self,
        }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            store: None,
            life: Life::Alone,
            rng: Rng::from_system(),
            sockets: Arc::new(Tcp),
            probe: None,
        }
    }
}

/// What a builder was given.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) resources: Resources,
    pub(super) migrations: &'static [Migration],
    pub(super) residents_max: Option<usize>,
    pub(super) resident_bytes_max: Option<usize>,
    pub(super) roster: Roster,
    pub(super) environment: Environment,
}

pub(super) async fn start(parts: Parts) -> Result<Node, StartError> {
    let Parts {
        settings,
        registry,
        resources,
        migrations,
        residents_max,
        resident_bytes_max,
        roster,
        environment,
    } = parts;
    roster.check()?;
    // Before anything is recorded: a kind's group is for ever.
    registry.check()?;
    let name = NodeId::new(&settings.node_name);
    let Opened { store, lock, ours } = open(&settings, environment.store, &name).await?;
    prepare(&store, migrations, settings.shards).await?;
    let life = environment.life.on(store.dialect());
    let alone = life == Life::Alone;
    let (rng, sockets) = (&environment.rng, environment.sockets.clone());
    let links = match alone {
        true => None,
        false => arrive(&settings, &name, &store, rng, sockets).await?,
    };
    let address = links.as_ref().map_or("", |links| links.address.as_str());
    let brings = Brings {
        kinds: registry.rows(),
        singletons: !roster.is_empty(),
    };
    let registration = register(&store, &settings, &name, address, alone, brings).await?;
    let terms = Terms {
        ttl: settings.lease_ttl,
    };
    let groups = Arc::new(registration.groups(&registry, settings.shards));
    let shards = Shards::new(groups.all(), name, registration.incarnation);
    registration.grant(&shards, (!alone).then_some(terms));
    let linked = links.map(|links| links.meet(&shards, &groups, &environment.rng));
    let shards = Arc::new(shards);
    let snowflakes = Arc::new(Snowflakes::new(store.clone(), shards.clone()));
    let mut config = HostingConfig::new(registry, store.clone(), shards);
    config.groups = groups;
    config.ids = Some(snowflakes.clone());
    config.resources = resources;
    config.rng = environment.rng;
    config.former_life_unclean = registration.unclean;
    config.router = linked
        .as_ref()
        .map(|linked| Arc::new(LinkRouter(linked.peers.clone())) as Arc<dyn Router>);
    config.probe = environment.probe;
    config.residents_max = residents_max.unwrap_or(config.residents_max);
    config.resident_bytes_max = resident_bytes_max.unwrap_or(config.resident_bytes_max);
    let hosting = Hosting::start(config).await?;
    let changes = Changes::new(store.clone());
    if let Some(linked) = &linked {
        linked.open(&hosting, &changes);
    }
    let opened = Opened { store, lock, ours };
    let node = assemble(settings, opened, linked, (snowflakes, changes), hosting);
    registration.note(&node.inner.changes);
    if let Life::Lease { expected } = life {
        join_or_end(&node, terms, expected, registration.sent).await?;
    }
    raise_curtain(&node, roster);
    tracing::info!(
        node = %node.name(), incarnation = node.incarnation().0,
        shards = node.hosting().shards().owned().len(), "the node is up"
    );
    Ok(node)
}

/// Takes the port of the links, waits for the end of former lives, and makes sure that the others
/// let this node in. The port comes before the lease and goes after it, so that nobody else answers
/// there.
async fn arrive(
    settings: &Settings,
    name: &NodeId,
    store: &Store,
    rng: &Rng,
    sockets: Arc<dyn Sockets>,
) -> Result<Option<Linked>, StartError> {
    let links = Linked::bind(settings, name, rng, sockets).await?;
    outlive(store, name, links.as_ref()).await?;
    if let Some(links) = &links {
        links.is_welcome(&others(store, name).await?).await?;
    }
    Ok(links)
}

fn assemble(
    settings: Settings,
    opened: Opened,
    linked: Option<Met>,
    (snowflakes, changes): (Arc<Snowflakes>, Changes),
    hosting: Arc<Hosting>,
) -> Node {
    let Opened { store, lock, ours } = opened;
    let inner = Inner {
        settings,
        store: ours.then_some(store),
        lock: Mutex::new(lock),
        tasks: Mutex::default(),
        member: OnceLock::new(),
        links: Mutex::new(linked),
        changes,
        snowflakes,
        singletons: OnceLock::new(),
        found: Found::default(),
        left: OnceCell::new(),
        phase: watch::channel(Phase::Ready).0,
        hosting,
    };
    Node {
        inner: Arc::new(inner),
    }
}

/// Joins the others. If that fails nobody gets this node: what it began must not go on, and its
/// lease not be renewed.
async fn join_or_end(
    node: &Node,
    terms: Terms,
    expected: usize,
    sent: Instant,
) -> Result<(), StartError> {
    let joined = join(node, terms, expected, sent).await;
    if joined.is_err() {
        node.shutdown().await;
    }
    joined
}

/// Starts the tasks of a node with a lease and takes its share of the shards.
async fn join(node: &Node, terms: Terms, expected: usize, sent: Instant) -> Result<(), StartError> {
    let (hosting, phase) = (node.hosting().clone(), node.inner.phase.clone());
    let member = Member {
        hosting,
        terms,
        phase,
        peers: node.peers(),
        changes: node.inner.changes.clone(),
        drain_within: node.inner.settings.drain_timeout,
        placement: Arc::default(),
        sightings: Arc::default(),
        turn: Arc::default(),
    };
    node.own(tokio::spawn(member.clone().keep_lease(sent)));
    // Whoever comes first would take everything, only to give it away again.
    let patience = Clock.now() + terms.ttl / 5;
    while Clock.now() < patience && member.count_there().await? < expected {
        Clock.sleep(LOOK_EVERY).await;
    }
    node.own(tokio::spawn(member.clone().keep_watch()));
    member.balance(&[]).await?;
    // Before the task that balances: a drain must find it.
    let _ = node.inner.member.set(member.clone());
    node.own(tokio::spawn(member.keep_balance()));
    Ok(())
}

/// Lets singletons run: the program's, and in a cluster the one that sweeps.
fn raise_curtain(node: &Node, mut roster: Roster) {
    if let Some(member) = node.inner.member.get().cloned() {
        let found = node.inner.found.clone();
        roster.add(sweeper::NAME, move |singleton| {
            sweeper::sweep(singleton, member.clone(), found.clone())
        });
    }
    let singletons = Singletons::new(roster, node.hosting().clone());
    for task in singletons.tasks() {
        node.own(tokio::spawn(task));
    }
    // A node starts once.
    let _ = node.inner.singletons.set(singletons);
}

/// Brings the schema up to date, and makes sure that this program fits what others wrote.
async fn prepare(
    store: &Store,
    migrations: &'static [Migration],
    shards: u32,
) -> Result<(), StoreError> {
    migrate::run_with(store, migrations).await?;
    meta::agree(store, shards).await
}

struct Opened {
    store: Store,
    lock: Option<FileLock>,
    /// Whether the node closes the store when it stops.
    ours: bool,
}

async fn open(
    settings: &Settings,
    given: Option<Store>,
    name: &NodeId,
) -> Result<Opened, StartError> {
    if let Some(store) = given {
        return Ok(Opened {
            store,
            lock: None,
            ours: false,
        });
    }
    let mut config = StoreConfig::new(settings.database_url.as_str());
    config.lease_ttl = settings.lease_ttl;
    // The lock comes first: until it is held, another process may be using the file.
    let lock = database_file(&settings.database_url).map(|file| FileLock::acquire(&file, name));
    if let Some(Err(error @ LockError::Held { .. })) = lock {
        return Err(error.into());
    }
    // Where the lock file cannot be made, opening the database tells best what is wrong there.
    let store = Store::open(config, Arc::new(TaskExecutor)).await?;
    Ok(Opened {
        store,
        lock: lock.transpose()?,
        ours: true,
    })
}

/// Returns the file of a SQLite address; `None` in memory.
fn database_file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    (path != ":memory:").then(|| path.into())
}
