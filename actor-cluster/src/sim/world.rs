//! Steps all parts of a simulation in one thread, never further apart than the shortest latency.
//!
//! A round runs the test's body first, as far as it may go, then every node up to the same moment,
//! in an order the seed decides. What passes between parts arrives in later rounds.

use std::{pin::Pin, sync::Arc, time::Duration};

use actor_core::{
    Client,
    clock::Clock,
    component::Registry,
    hosting::{Hosting, HostingConfig},
    id::{Incarnation, NodeId},
    shards::Shards,
    store::{Store, StoreConfig, TaskExecutor, meta, migrate},
};

use super::{
    control::Sim,
    harness::Options,
    machine::{Machine, Step},
    network::{Broken, LATENCY_MIN, Packet, Part, Undelivered},
    probe::SimProbe,
    router::SimRouter,
    shared::{Command, Shared, rng},
    store::SimExecutor,
};
use crate::{
    Node, Settings,
    node::{
        Phase,
        start::{Environment, Life},
    },
};

/// Shards of a simulated cluster: few, so that entities share them and takeovers are quick.
const SHARDS: u32 = 16;

/// The longest step while nothing passes between the parts.
const QUIET_STEP: Duration = Duration::from_millis(100);

/// Virtual time after which a test is given up: something in it waits for ever.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The body of a test.
pub(super) type Body = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// A simulation.
pub(super) struct World {
    shared: Arc<Shared>,
    install: fn(&mut Registry),
    store: Store,
    now: Duration,
    nodes: Vec<Option<Machine>>,
    driver: Machine,
}

impl World {
    /// Prepares a simulation and what its test sees of it.
    pub(super) fn new(
        options: &Options,
        shared: Arc<Shared>,
        real: &tokio::runtime::Runtime,
    ) -> (Self, Sim) {
        let store = real.block_on(open());
        let driver = Machine::new(Part::Driver, Duration::ZERO);
        shared.set_driver(driver.clock, driver.cut.clone());
        let client = driver.block_on(outside(options, &shared, &driver, &store));
        let sim = Sim {
            rng: rng(shared.seed, "test"),
            store: store.with_executor(Arc::new(Aside(shared.clone()))),
            shared: shared.clone(),
            client,
        };
        let nodes = (0..shared.nodes()).map(|_| None).collect();
        let world = Self {
            shared,
            install: options.host,
            store,
            now: Duration::ZERO,
            nodes,
            driver,
        };
        (world, sim)
    }

    /// Runs the test's body to its end.
    pub(super) fn run(&mut self, mut body: Body) -> Result<(), String> {
        // The body's first words come before the nodes start: that is when it provides resources.
        let mut step = self.driver.run_with(self.now, &mut body);
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        loop {
            match step {
                Step::Returned(outcome) => return outcome,
                Step::Reached(at) => self.follow(at),
            }
            if self.now >= PATIENCE {
                return Err(format!(
                    "the test did not end within {PATIENCE:?} of virtual time"
                ));
            }
            let until = self.now + self.stride();
            self.deliver_to_driver(until);
            step = self.driver.run_with(until, &mut body);
        }
    }

    /// Returns how far parts may run without looking at one another.
    fn stride(&self) -> Duration {
        let alone = self.nodes.len() == 1 && self.shared.network().is_quiet();
        if alone { QUIET_STEP } else { LATENCY_MIN }
    }

    /// Brings all nodes to where the test is, then does what the test asked for.
    fn follow(&mut self, at: Duration) {
        let mut order: Vec<_> = (0..self.nodes.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, self.shared.rng.below(index as u64 + 1) as usize);
        }
        for node in order {
            self.step_node(node, at);
        }
        self.now = at;
        self.start_those_due();
        while let Some(command) = self.shared.next_command() {
            self.obey(command);
        }
    }

    fn step_node(&mut self, node: usize, until: Duration) {
        if self.shared.slot(node).frozen {
            return;
        }
        self.deliver_to_node(node, until);
        let Some(machine) = &mut self.nodes[node] else {
            return;
        };
        machine.run(until);
        let crash = self.shared.slot(node).crash.take();
        if let Some(why) = crash {
            self.crash(node, &why);
        }
    }

    fn start_those_due(&mut self) {
        for node in 0..self.nodes.len() {
            let due = self
                .shared
                .slot(node)
                .restart_at
                .is_some_and(|at| at <= self.now);
            if due && self.nodes[node].is_none() {
                self.start(node);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Crash(node) => {
                self.crash(node, "the test");
                self.shared.slot(node).restart_at = None;
            }
            Command::Start(node) if self.nodes[node].is_none() => self.start(node),
            Command::Start(_) => {}
            Command::Freeze(node) => {
                self.shared.slot(node).frozen = true;
                self.trace(format_args!("n{node} freezes"));
            }
            Command::Thaw(node) => {
                self.shared.slot(node).frozen = false;
                self.trace(format_args!("n{node} thaws"));
                if let Some(machine) = &self.nodes[node] {
                    machine.jump(self.now);
                }
            }
            // A test that stopped waiting does not mind.
            Command::Barrier(reached) => drop(reached.send(())),
        }
    }

    /// Drops a node's runtime with everything in it.
    fn crash(&mut self, node: usize, why: &str) {
        let Some(machine) = self.nodes[node].take() else {
            return;
        };
        self.trace(format_args!("n{node} crashes: {why}"));
        let dead = machine.part;
        let handle = {
            let mut slot = self.shared.slot(node);
            (slot.up, slot.frozen, slot.crash) = (false, false, None);
            slot.node.take()
        };
        // Not under the slot's lock: what is dropped here may look at it.
        drop((handle, machine));
        let open = self.shared.network().died(node, dead);
        for number in open {
            let at = self.now + self.shared.latency();
            self.shared
                .network()
                .answer(number, at, Err(Broken::Unanswered));
        }
    }

    /// Starts the next life of a node.
    fn start(&mut self, node: usize) {
        let part = {
            let mut slot = self.shared.slot(node);
            slot.life += 1;
            (slot.up, slot.frozen, slot.restart_at) = (true, false, None);
            Part::Node {
                index: node,
                life: slot.life,
            }
        };
        self.trace(format_args!("n{node} starts"));
        let machine = Machine::new(part, self.now);
        machine.spawn(live(
            self.shared.clone(),
            self.builder(&machine),
            LifeOf::of(&machine),
        ));
        self.nodes[node] = Some(machine);
    }

    fn builder(&self, machine: &Machine) -> crate::NodeBuilder {
        let (shared, part, clock) = (self.shared.clone(), machine.part, machine.clock);
        let cut = machine.cut.clone();
        let seed = format!("{part:?}");
        let executor = SimExecutor::new(shared.clone(), part, clock, cut.clone());
        let random = rng(shared.seed, &seed);
        let router = SimRouter::new(
            shared.clone(),
            part,
            clock,
            rng(shared.seed, &format!("{seed} out")),
        );
        let environment = Environment {
            store: Some(self.store.with_executor(Arc::new(executor))),
            life: Life::Lease {
                expected: self.nodes.len(),
            },
            rng: random,
            router: Some(Arc::new(router)),
            probe: Some(Arc::new(SimProbe {
                shared,
                part,
                clock,
                cut,
            })),
        };
        let resources = self
            .shared
            .resources
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let mut settings = Settings::default();
        settings.node_name = part.to_string();
        settings.shards = SHARDS;
        Node::builder()
            .settings(settings)
            .environment(environment)
            .kinds(self.install, resources)
    }

    fn deliver_to_driver(&mut self, until: Duration) {
        let arrivals = self.shared.network().arrivals(Part::Driver, until);
        for (at, packet) in arrivals {
            deliver(&self.shared, &self.driver, at, packet);
        }
    }

    fn deliver_to_node(&mut self, node: usize, until: Duration) {
        let Some(machine) = &self.nodes[node] else {
            let refused = self.shared.network().requests_to(node, until);
            for (at, packet) in refused {
                refuse(&self.shared, at, packet, Undelivered::Down);
            }
            return;
        };
        let arrivals = self.shared.network().arrivals(machine.part, until);
        for (at, packet) in arrivals {
            deliver(&self.shared, machine, at, packet);
        }
    }

    fn trace(&self, line: std::fmt::Arguments<'_>) {
        self.shared.trace.add(self.now, line);
    }
}

/// What the task that lives a node's life needs to know of it.
struct LifeOf {
    part: Part,
    clock: super::machine::PartClock,
    cut: Arc<super::machine::Cut>,
}

impl LifeOf {
    fn of(machine: &Machine) -> Self {
        Self {
            part: machine.part,
            clock: machine.clock,
            cut: machine.cut.clone(),
        }
    }
}

/// Starts a node and watches it; a program that cannot start, or lost its lease, ends and is started
/// again.
async fn live(shared: Arc<Shared>, builder: crate::NodeBuilder, life: LifeOf) {
    let LifeOf { part, clock, cut } = life;
    let Part::Node { index, .. } = part else {
        return;
    };
    let why = match builder.start().await {
        Ok(node) => {
            if !shared.is_alive(part) {
                return;
            }
            let shards = node.hosting().shards().owned().len();
            shared.trace.add(
                clock.now(),
                format_args!("{part} is up with {shards} shards"),
            );
            shared.slot(index).node = Some(node.clone());
            match node.ended().await {
                Phase::Lost(loss) => loss.to_string(),
                _ => return,
            }
        }
        Err(error) => {
            shared.slot(index).trouble = Some(error.to_string());
            format!("it cannot start: {error}")
        }
    };
    shared.want_crash(part, clock.now(), why);
    cut.now();
}

/// Lets a packet arrive at its own time.
fn deliver(shared: &Arc<Shared>, machine: &Machine, at: Duration, packet: Packet) {
    let arrival = machine.clock.instant(at);
    match packet {
        Packet::Answer { sender, answer, .. } => machine.spawn(async move {
            Clock.sleep_until(arrival).await;
            // Whoever asked may have gone away.
            drop(sender.send(answer));
        }),
        Packet::Request { to, number, work } => {
            let node = shared.slot(to).node.clone();
            let Some(node) = node else {
                let request = Packet::Request { to, number, work };
                return refuse(shared, at, request, Undelivered::Starting);
            };
            let (shared, clock, part) = (shared.clone(), machine.clock, machine.part);
            machine.spawn(async move {
                Clock.sleep_until(arrival).await;
                shared.network().delivered(number);
                let answer = work(node).await;
                if shared.is_alive(part) {
                    let at = clock.now() + shared.latency();
                    shared.network().answer(number, at, Ok(answer));
                }
            });
        }
    }
}

/// Sends back a request to a node that is not there.
fn refuse(shared: &Shared, at: Duration, packet: Packet, why: Undelivered) {
    if let Packet::Request { number, .. } = packet {
        let at = at + shared.latency();
        shared
            .network()
            .answer(number, at, Err(Broken::Undelivered(why)));
    }
}

/// Opens the world's database, ready for nodes.
async fn open() -> Store {
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

/// Makes the client of the test's body: it hosts nothing and reaches everything through the network.
async fn outside(
    options: &Options,
    shared: &Arc<Shared>,
    driver: &Machine,
    store: &Store,
) -> Client {
    let mut registry = Registry::default();
    (options.host)(&mut registry);
    let (part, clock, cut) = (driver.part, driver.clock, driver.cut.clone());
    let executor = SimExecutor::new(shared.clone(), part, clock, cut);
    let shards = Shards::new(SHARDS, NodeId::new(part.to_string()), Incarnation(0));
    let store = store.with_executor(Arc::new(executor));
    let mut config = HostingConfig::new(registry, store, Arc::new(shards));
    config.serves = false;
    config.rng = rng(shared.seed, "outside");
    let random = rng(shared.seed, "routes");
    config.router = Some(Arc::new(SimRouter::new(
        shared.clone(),
        part,
        clock,
        random,
    )));
    let hosting = Hosting::start(config).await;
    Client::new(hosting.unwrap_or_else(|failure| panic!("the kinds cannot be hosted: {failure}")))
}

/// The test's own look into the database: at once, whatever the nodes' faults.
#[derive(Debug)]
struct Aside(Arc<Shared>);

impl actor_core::store::Executor for Aside {
    fn run(
        &self,
        _: &'static str,
        job: actor_core::store::executor::Job,
    ) -> actor_core::store::BoxFuture<'static, Result<(), actor_core::store::executor::Lost>> {
        let (sender, ended) = std::sync::mpsc::sync_channel(1);
        drop(self.0.real.spawn(async move {
            job.await;
            // The world waits for it below; it cannot be gone.
            let _ = sender.send(());
        }));
        let lost = "the call panicked";
        let done = ended.recv();
        let answer = done.map_err(|_| actor_core::store::executor::Lost::Answer(lost.into()));
        Box::pin(std::future::ready(answer))
    }

    fn now_ms(&self) -> i64 {
        self.0.database_ms_last()
    }
}
