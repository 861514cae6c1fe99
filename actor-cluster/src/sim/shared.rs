//! What every part of a simulation can reach: the trace, the network, the nodes as seen from
//! outside, and what the test asked for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_core::{Registry, clock::Rng, hosting::Resources};
use tokio::sync::oneshot;

use super::{
    fault::Fault,
    machine::{Cut, PartClock},
    network::{Answer, LATENCY_MIN, LATENCY_SPREAD_MS, Network, Part, Work},
    sockets,
    trace::Trace,
    traffic::Traffic,
    wires::Wires,
};
use crate::{Node, singleton::Roster};

/// The database's time when a simulation begins, in milliseconds since 1970: 2025-06-15 15:06:40.
const DATABASE_START_MS: i64 = 1_750_000_000_000;

/// The lease of nodes, in milliseconds, as in production.
const LEASE_MS: u64 = 10_000;

/// What the test asks of the world; done between two steps.
#[derive(Debug)]
pub(super) enum Command {
    /// Drop a node's runtime.
    Crash(usize),
    /// Start the next life of a node that is down.
    Start(usize),
    /// Stop stepping a node.
    Freeze(usize),
    /// Step it again.
    Thaw(usize),
    /// Answer when all nodes have come as far as the test.
    Barrier(oneshot::Sender<()>),
}

/// A node as seen from outside.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Counts its starts.
    pub(super) life: u64,
    /// Whether its runtime exists.
    pub(super) up: bool,
    pub(super) frozen: bool,
    /// Once its start is done.
    pub(super) node: Option<Node>,
    pub(super) faults: Vec<Fault>,
    /// Store calls of all lives.
    pub(super) store_calls: u64,
    /// Why the world must crash it, as soon as it can.
    pub(super) crash: Option<String>,
    /// Why its last start failed.
    pub(super) trouble: Option<String>,
    /// When it starts again by itself.
    pub(super) restart_at: Option<Duration>,
    /// Of its next life; `None` is the default.
    pub(super) weight: Option<u32>,
    /// What it hosts from its next start on; `None` is what all nodes do.
    pub(super) install: Option<fn(&mut Registry)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) trace: Trace,
    pub(super) rng: Rng,
    pub(super) real: tokio::runtime::Handle,
    pub(super) resources: Mutex<Resources>,
    /// What nodes host from their next start on.
    pub(super) install: Mutex<fn(&mut Registry)>,
    /// The singletons of all nodes, from their next start on.
    pub(super) roster: Mutex<Roster>,
    /// Entities in memory on each node; 0 for the default.
    pub(super) residents_max: AtomicUsize,
    /// The nodes' leases, in milliseconds.
    pub(super) lease_ms: AtomicU64,
    nodes: Vec<Mutex<Slot>>,
    network: Mutex<Network>,
    wires: Mutex<Wires>,
    traffic: Mutex<Traffic>,
    commands: Mutex<VecDeque<Command>>,
    crash_points: Mutex<Vec<String>>,
    database_ms: AtomicI64,
    /// What the database's clock shows more than the simulation's.
    database_step_ms: AtomicI64,
    driver: OnceLock<(PartClock, Arc<Cut>)>,
}

impl Shared {
    pub(super) fn new(
        seed: u64,
        nodes: usize,
        install: fn(&mut Registry),
        real: tokio::runtime::Handle,
    ) -> Self {
        Self {
            seed,
            trace: Trace::new(),
            rng: rng(seed, "world"),
            real,
            resources: Mutex::default(),
            install: Mutex::new(install),
            roster: Mutex::default(),
            residents_max: AtomicUsize::new(0),
            lease_ms: AtomicU64::new(LEASE_MS),
            nodes: (0..nodes).map(|_| Mutex::default()).collect(),
            network: Mutex::default(),
            wires: Mutex::default(),
            traffic: Mutex::default(),
            commands: Mutex::default(),
            crash_points: Mutex::default(),
            database_ms: AtomicI64::new(DATABASE_START_MS),
            database_step_ms: AtomicI64::new(0),
            driver: OnceLock::new(),
        }
    }

    /// Tells everybody where the test's body runs.
    pub(super) fn set_driver(&self, clock: PartClock, cut: Arc<Cut>) {
        self.driver.set((clock, cut)).expect("there is one driver");
    }

    /// Returns the clock of the test's body.
    pub(super) fn driver_clock(&self) -> PartClock {
        self.driver.get().expect("set before the body begins").0
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns a node as seen from outside.
    ///
    /// # Panics
    /// If the simulation has no such node: a mistake in the test.
    pub(super) fn slot(&self, node: usize) -> MutexGuard<'_, Slot> {
        let count = self.nodes.len();
        let slot = self.nodes.get(node);
        let slot =
            slot.unwrap_or_else(|| panic!("there is no node {node}: the nodes are 0..{count}"));
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connections between hosts. Nothing that owns an end of one may be dropped
    /// under this lock.
    pub(super) fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the bytes of links arrive that are due at `now`.
    pub(super) fn carry(self: &Arc<Self>, now: Duration) {
        let latency = self.latency();
        let accept = |number, inbox| sockets::dialled(self, number, inbox);
        self.wires().carry(now, latency, &accept);
    }

    /// Returns how long leases of nodes last that start from now on.
    pub(super) fn lease_ttl(&self) -> Duration {
        Duration::from_millis(self.lease_ms.load(Ordering::Relaxed))
    }

    /// Returns what may happen to requests and notes.
    pub(super) fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what may happen to requests and notes.
    pub(super) fn set_traffic(&self, traffic: Traffic) {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner) = traffic;
    }

    /// Says whether this life of a node still runs; the test's body always does.
    pub(super) fn is_alive(&self, part: Part) -> bool {
        match part {
            Part::Driver => true,
            Part::Node { index, life } => {
                let slot = self.slot(index);
                slot.up && slot.life == life && slot.crash.is_none()
            }
        }
    }

    /// Sends work to a node; the answer comes back after a second latency.
    pub(super) fn send(&self, from: Part, now: Duration, to: usize, work: Work) -> (u64, Answer) {
        let sent = self.network().ask(from, to, now + self.latency(), work);
        if from == Part::Driver {
            self.cut_driver();
        }
        sent
    }

    /// Draws the time something takes from one part to another.
    pub(super) fn latency(&self) -> Duration {
        LATENCY_MIN + Duration::from_millis(self.rng.below(LATENCY_SPREAD_MS))
    }

    /// Asks the world for something; it is done before virtual time goes on.
    pub(super) fn command(&self, command: Command) {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(command);
        self.cut_driver();
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn cut_driver(&self) {
        if let Some((_, cut)) = self.driver.get() {
            cut.when_idle();
        }
    }

    /// Returns the node that owns the shard of an entity, as the nodes themselves see it; the one
    /// with the newest epoch, if a deposed one does not know yet.
    pub(super) fn owner(&self, kind: &str, id: &str) -> Option<usize> {
        let owned = |index: &usize| {
            let slot = self.slot(*index);
            let hosting = slot.node.as_ref().filter(|_| slot.up)?.hosting();
            hosting.shards().epoch(hosting.shard_of(kind, id))
        };
        let nodes = (0..self.nodes.len()).filter_map(|index| Some((owned(&index)?, index)));
        nodes
            .max_by_key(|(epoch, _)| *epoch)
            .map(|(_, index)| index)
    }

    /// Plans a crash at a point of interest.
    pub(super) fn crash_at(&self, point: &str) {
        self.points().push(point.to_owned());
    }

    /// Says whether a crash was planned here, once.
    pub(super) fn take_crash_point(&self, point: &str) -> bool {
        let mut points = self.points();
        let planned = points.iter().position(|planned| planned == point);
        planned.map(|index| points.remove(index)).is_some()
    }

    fn points(&self) -> MutexGuard<'_, Vec<String>> {
        self.crash_points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the database's time when the caller's clock shows `now`. It steps back only if a
    /// test says so, though parts come a few milliseconds apart.
    pub(super) fn database_ms(&self, now: Duration) -> i64 {
        let step = self.database_step_ms.load(Ordering::SeqCst);
        let ms = DATABASE_START_MS + i64::try_from(now.as_millis()).unwrap_or(i64::MAX / 2) + step;
        self.database_ms.fetch_max(ms, Ordering::SeqCst).max(ms)
    }

    /// Lets the database's clock step, back if `by_ms` is negative.
    pub(super) fn step_database(&self, by_ms: i64) {
        self.database_step_ms.fetch_add(by_ms, Ordering::SeqCst);
        if by_ms < 0 {
            // What was read before is no bound any more.
            self.database_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Returns the database's time as it was last seen.
    pub(super) fn database_ms_last(&self) -> i64 {
        self.database_ms.load(Ordering::SeqCst)
    }

    /// Asks the world to crash this life of a node; `again` says whether it starts again by itself.
    pub(super) fn want_crash(&self, part: Part, now: Duration, why: String) {
        let Part::Node { index, life } = part else {
            return;
        };
        let pause = Duration::from_millis(500 + self.rng.below(1000));
        let mut slot = self.slot(index);
        if slot.life == life && slot.up && slot.crash.is_none() {
            slot.crash = Some(why);
            slot.restart_at = Some(now + pause);
        }
    }
}

/// Returns the generator of one part; parts do not disturb each other.
pub(super) fn rng(seed: u64, of: &str) -> Rng {
    Rng::seeded(xxhash_rust::xxh3::xxh3_64_with_seed(of.as_bytes(), seed))
}
