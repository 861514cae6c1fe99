//! From settings to a serving node (architecture D1, D9).
//!
//! Few statements, because a start should take less than 300 ms: one transaction registers the node
//! and takes what it may take.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use actor_core::{
    clock::{Clock, Instant, Rng},
    component::Registry,
    groups::Groups,
    hosting::{Hosting, HostingConfig, Resources},
    id::{GroupId, Incarnation, NodeId, ShardId},
    router::{Probe, Router},
    shards::Shards,
    store::{
        Dialect, Store, StoreConfig, StoreError, TaskExecutor, declined,
        kinds::{self, Catalog, KindRow},
        lock::{FileLock, LockError},
        meta,
        migrate::{self, Migration},
        nodes::{self, NodeRow, NodeState},
        ownership::{self, Seen, Taken},
        suspicions,
    },
};
use tokio::sync::{OnceCell, watch};

use super::{Inner, Node, Phase, Settings, StartError};
use crate::{
    membership::{Terms, task::Member},
    node::{
        cluster::{Changes, What, took},
        linked::{Linked, Met, Sought},
    },
    routing::LinkRouter,
    singleton::{Roster, Singletons},
    snowflake::Snowflakes,
    sweeper::{self, Found},
    transport::socket::{Sockets, Tcp},
};

/// How often a node that waits for its peers looks for them.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// What registration found and won.
struct Registration {
    incarnation: Incarnation,
    /// Whether the former life ended without saying so: its messages are suspect.
    unclean: bool,
    taken: Vec<Taken>,
    /// The groups it is a member of.
    joined: Vec<GroupId>,
    /// What is known of kinds.
    catalog: Catalog,
    /// Read before it was sent: the lease counts from here.
    sent: Instant,
}

impl Registration {
    /// Hands out what was won, and the lease; without terms it never ends.
    fn grant(&self, shards: &Shards, terms: Option<Terms>) {
        match terms {
            None => shards.hold_lease_unlimited(),
            Some(terms) => shards.extend_lease(self.sent + terms.held()),
        }
        for taken in &self.taken {
            taken.grant(shards);
        }
    }

    /// Returns what the node knows of groups.
    fn groups(&self, registry: &Registry, count: u32) -> Groups {
        Groups::new(count, registry.kinds(), &self.joined, self.catalog.clone())
    }

    /// Tells operators of it.
    fn note(&self, changes: &Changes) {
        let incarnation = self.incarnation.0;
        changes.note(What::Joined { incarnation });
        if !self.taken.is_empty() {
            changes.note(took(&self.taken));
        }
    }
}

/// What a node brings into a cluster.
struct Brings {
    kinds: Vec<KindRow>,
    singletons: bool,
}

impl Brings {
    /// Returns the groups that a node is a member of: those of its kinds. Singletons are in the
    /// default group, but a node with kinds of others is none of its members for their sake: it
    /// would own shards of entities it does not host.
    fn joins(&self, catalog: &Catalog) -> Vec<GroupId> {
        let kinds = self.kinds.iter();
        let groups: BTreeSet<_> = kinds.filter_map(|row| catalog.group(&row.group)).collect();
        match groups.is_empty() && self.singletons {
            true => vec![GroupId::DEFAULT],
            false => groups.into_iter().collect(),
        }
    }
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

/// Returns the other nodes that hold a lease and can be dialled.
async fn others(store: &Store, name: &NodeId) -> Result<Vec<NodeRow>, StoreError> {
    let rows = store.read("other nodes", |c| Box::pin(nodes::list(c)));
    let mut rows = rows.await?;
    rows.retain(|row| row.node != *name && !row.lease_left.is_zero() && !row.address.is_empty());
    Ok(rows)
}

/// Waits until no earlier life of this node can hold a lease any more.
///
/// It may be frozen, not dead: until its lease has run out it may still answer calls. If somebody
/// else, or nobody, answers where it listened, it is gone (architecture D1).
///
/// # Errors
/// `Held` when the lease is renewed meanwhile: another process has this name.
async fn outlive(store: &Store, name: &NodeId, links: Option<&Linked>) -> Result<(), StartError> {
    let mut before = None;
    loop {
        let rows = store.read("former life", |c| Box::pin(nodes::list(c)));
        let rows = rows.await?;
        let live = |row: &&NodeRow| row.node != *name && !row.lease_left.is_zero();
        if links.is_none()
            && let Some(other) = rows.iter().find(live)
        {
            return Err(StartError::no_secret(&other.node));
        }
        let ended = |row: &NodeRow| matches!(row.state, NodeState::Left | NodeState::Dead);
        let former = rows.iter().find(|row| row.node == *name && !ended(row));
        let Some(former) = former.filter(|row| !row.lease_left.is_zero()) else {
            return Ok(());
        };
        if before.is_none()
            && let Some(links) = links
        {
            match links.seek(former).await {
                Sought::Gone => return Ok(()),
                Sought::Lives => return Err(StartError::name_taken(name)),
                Sought::Silent => {}
            }
        }
        let left = former.lease_left;
        match before {
            Some(before) if left > before => return Err(StartError::name_taken(name)),
            Some(_) => {}
            None => tracing::info!(node = %name, ?left, "waiting for the former life's lease"),
        }
        before = Some(left);
        Clock.sleep(LOOK_EVERY).await;
    }
}

/// Registers this life of the node; alone, it also takes everything.
async fn register(
    store: &Store,
    settings: &Settings,
    name: &NodeId,
    address: &str,
    alone: bool,
    brings: Brings,
) -> Result<Registration, StoreError> {
    let (name, ttl, count) = (name.clone(), settings.lease_ttl, settings.shards);
    let (address, weight) = (address.to_owned(), settings.weight);
    let sent = Clock.now();
    let registered = store.write_lease("register", move |c| {
        Box::pin(async move {
            let mut unclean = false;
            for row in nodes::list(c).await? {
                // Alone, whoever else is in the table is gone: this process holds the lock.
                let former = alone || row.node == name;
                let ended = matches!(row.state, NodeState::Left | NodeState::Dead);
                if former && !ended {
                    unclean = true;
                    nodes::tombstone(c, &row.node, row.incarnation).await?;
                }
            }
            let incarnation = nodes::register(c, &name, &address, ttl).await?;
            nodes::set_weight(c, &name, incarnation, weight).await?;
            let catalog = kinds::record(c, &name, &brings.kinds, count).await?;
            let joined = brings.joins(&catalog);
            nodes::set_groups(c, &name, incarnation, &joined).await?;
            suspicions::forget(c).await?;
            declined::forget(c, &name).await?;
            let taken = if alone {
                let all = 0..catalog.shards(count);
                let all: Vec<_> = all.map(ShardId).collect();
                ownership::take(c, &all, &name, incarnation, &Seen::default()).await?
            } else {
                Vec::new()
            };
            Ok(Registration {
                incarnation,
                unclean,
                taken,
                joined,
                catalog,
                sent,
            })
        })
    });
    registered.await
}
