//! Starting and stopping the hosting of a node.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::Actor;

use super::{
    Hosting, memory,
    residency::{RESIDENTS_MAX, Residents},
};
use crate::{
    clock::{Clock, Rng},
    component::Registry,
    groups::Groups,
    id::{CallIds, ShardId},
    router::{IdSource, Probe, Router},
    shards::Shards,
    store::{
        Store,
        lane::{Announced, EventHook, LaneConfig, Lanes},
    },
    supervise::NodeSupervisor,
    timers::Timers,
    topic::{Position, TopicEvent, Topics, gaps::Gaps},
    wheel::Wheel,
};

/// How often a drain looks whether all work has ended.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// Values of the program that handlers reach with `ctx.resource()`, by type.
#[derive(Clone, Default)]
pub struct Resources(BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Resources {
    /// Adds a value; one of the same type is replaced.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Returns the value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({})", self.0.len())
    }
}

/// What a node gives its hosting.
#[derive(Debug)]
pub struct HostingConfig {
    /// The kinds.
    pub registry: Registry,
    /// The program's values.
    pub resources: Resources,
    /// The open store.
    pub store: Store,
    /// The shards this node owns.
    pub shards: Arc<Shards>,
    /// The groups that shards are in. Default: one for all kinds.
    pub groups: Arc<Groups>,
    /// Randomness; seeded by a simulation.
    pub rng: Rng,
    /// Whether the node's former life, if any, ended without a drain.
    pub former_life_unclean: bool,
    /// Activations in memory; default 100 000, at least 1.
    pub residents_max: usize,
    /// Bytes of activations in memory, each counted as 16 KiB and twice its stored state. What a
    /// volatile entity holds is not known and not counted. Default: a quarter of what the machine,
    /// or the control group the program runs in, has; at least 1 MiB.
    pub resident_bytes_max: usize,
    /// Whether it runs what it hosts: reads stored messages, fires timers, sweeps. A program that
    /// only calls the nodes of a cluster does not. Default: true.
    pub serves: bool,
    /// The way to shards of other nodes. Default: none.
    pub router: Option<Arc<dyn Router>>,
    /// Who is told about points of interest. Default: nobody.
    pub probe: Option<Arc<dyn Probe>>,
    /// What makes ids that are unique in the cluster. Default: nothing; asking for one is refused.
    pub ids: Option<Arc<dyn IdSource>>,
}

impl HostingConfig {
    /// Returns the defaults around what has none.
    pub fn new(registry: Registry, store: Store, shards: Arc<Shards>) -> Self {
        Self {
            registry,
            resources: Resources::default(),
            store,
            groups: Arc::new(Groups::alone(shards.count())),
            shards,
            rng: Rng::from_system(),
            former_life_unclean: false,
            residents_max: RESIDENTS_MAX,
            resident_bytes_max: memory::available() / 4,
            serves: true,
            router: None,
            probe: None,
            ids: None,
        }
    }
}

impl Hosting {
    /// Starts hosting: supervisor, lanes, wheel, polls. The shards must be owned already.
    ///
    /// # Errors
    /// When two types claim one kind name, or the store cannot be read.
    pub async fn start(config: HostingConfig) -> crate::Result<Arc<Self>> {
        config.registry.check()?;
        let suspect_up_to = if config.former_life_unclean {
            let last = config.store.read("last message", |connection| {
                Box::pin(async move { crate::store::mailbox::last_seq(connection).await })
            });
            last.await?
        } else {
            0
        };
        let clock = Clock;
        let topics = Arc::new(Topics::default());
        let (root, _) = NodeSupervisor::spawn(None, NodeSupervisor, ()).await?;
        let hosting = Arc::new(Self {
            kinds: config.registry.kinds,
            types: config.registry.types,
            resources: config.resources,
            clock,
            wheel: Arc::new(Wheel::new(clock)),
            lanes: OnceLock::new(),
            shards: config.shards.clone(),
            groups: config.groups,
            topics: topics.clone(),
            timers: Timers::default(),
            call_ids: CallIds::new(config.rng.bits()),
            root: root.get_cell(),
            supervisors: Mutex::default(),
            residents: Residents::new(
                config.residents_max,
                config.resident_bytes_max,
                config.shards.count(),
            ),
            activations: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            held: AtomicBool::new(false),
            room: tokio::sync::Notify::new(),
            sooner: tokio::sync::Notify::new(),
            suspects: (0..config.shards.count())
                .map(|_| AtomicI64::new(suspect_up_to))
                .collect(),
            looks: super::reading::Looks::default(),
            declined: super::handoff::Declined::default(),
            taken_up: super::taking::TakenUp::default(),
            tasks: Mutex::default(),
            router: config.router,
            probe: config.probe,
            ids: config.ids,
            store: config.store.clone(),
            rng: config.rng.clone(),
        });
        let lanes = Lanes::start(LaneConfig::new(
            config.store,
            config.shards,
            config.rng,
            event_hook(topics, hosting.router.clone()),
        ));
        if hosting.lanes.set(lanes).is_err() {
            unreachable!("the hosting was just made");
        }
        hosting.start_tasks(config.serves);
        Ok(hosting)
    }

    fn start_tasks(self: &Arc<Self>, serves: bool) {
        let wheel = self.wheel.clone();
        self.spawn(async move { wheel.run().await });
        let gaps = Gaps {
            topics: self.topics.clone(),
            store: self.store.clone(),
            rng: self.rng.clone(),
        };
        self.spawn(gaps.run());
        if serves {
            self.spawn(self.clone().keep_outlasting());
            self.spawn(self.clone().keep_polling());
            self.spawn(self.clone().keep_refilling());
            self.spawn(self.clone().keep_firing());
            self.spawn(self.clone().keep_sweeping());
        }
    }

    /// Runs a task of the framework; it ends with the node.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Refuses new work and waits until what runs has ended, at most `within`.
    ///
    /// Returns how many messages were still running or queued at the end.
    pub async fn drain(&self, within: Duration) -> usize {
        self.draining.store(true, Ordering::SeqCst);
        let deadline = self.now() + within;
        loop {
            let busy: usize = self
                .kinds
                .values()
                .map(|kind| kind.stats().mailbox_depth)
                .sum();
            if busy == 0 || self.now() >= deadline {
                return busy;
            }
            self.clock.sleep(DRAIN_STEP).await;
        }
    }

    /// Ends what runs in shards, sorted, that this node owns no more; queued calls are sent on by
    /// whoever made them.
    pub fn give_up(&self, shards: &[ShardId]) {
        for hosted in self.kinds.values() {
            hosted.stop_shards(Some(shards));
        }
    }

    /// Stops everything: activations, lanes, tasks. What still runs is cut off; its callers learn
    /// that the outcome is unknown.
    pub async fn stop(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for hosted in self.kinds.values() {
            hosted.stop_shards(None);
        }
        self.lanes().stop().await;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
        drop(tasks);
        self.root.kill();
        let supervisors = self
            .supervisors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for supervisor in supervisors.values() {
            for child in supervisor.get_children() {
                child.kill();
            }
            supervisor.kill();
        }
    }
}

/// Returns what tells listeners of stored events, here and at the other nodes.
fn event_hook(topics: Arc<Topics>, router: Option<Arc<dyn Router>>) -> EventHook {
    Arc::new(move |announced: Vec<Announced>| {
        for event in announced {
            let event: Arc<TopicEvent> = Arc::new(event.into());
            topics.announce(&event);
            if let Some(router) = &router {
                router.announce(&event);
            }
        }
    })
}

impl From<Announced> for TopicEvent {
    fn from(event: Announced) -> Self {
        Self {
            topic: event.topic,
            position: Position {
                epoch: event.epoch.cast_unsigned(),
                offset: event.offset.cast_unsigned(),
            },
            name: event.name,
            data: event.data,
        }
    }
}
