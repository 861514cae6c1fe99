//! Steps all parts of a simulation in one thread, never further apart than the shortest latency.
//!
//! A round runs the test's body first, as far as it may go, then every node up to the same moment,
//! in an order the seed decides. What passes between parts arrives in later rounds.

mod arrivals;
mod life;
mod outside;

use std::{
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use actor_core::store::Store;

use super::{
    control::Sim,
    harness::Options,
    machine::{Machine, Step},
    network::{Broken, LATENCY_MIN, Part, Undelivered},
    owners::Owners,
    probe::SimProbe,
    shared::{Command, Shared, rng},
    sockets::SimSockets,
    store::SimExecutor,
    wires::Host,
};
use crate::{
    Node, NodeBuilder, Settings,
    node::{
        Secret,
        start::{Environment, Life},
    },
};

/// Shards of a simulated cluster: few, so that entities share them and takeovers are quick.
const SHARDS: u32 = 16;

/// What the links of all parts know; at least 16 bytes.
const SECRET: &str = "a secret of the simulation";

/// The longest step while nothing passes between the parts.
const QUIET_STEP: Duration = Duration::from_millis(100);

/// Virtual time after which a test is given up: something in it waits for ever.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The body of a test.
pub(super) type Body = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// A simulation.
pub(super) struct World {
    shared: Arc<Shared>,
    store: Store,
    now: Duration,
    nodes: Vec<Option<Machine>>,
    driver: Machine,
    owners: Owners,
}

impl World {
    /// Prepares a simulation and what its test sees of it.
    pub(super) fn new(
        options: &Options,
        shared: Arc<Shared>,
        real: &tokio::runtime::Runtime,
    ) -> (Self, Sim) {
        let store = real.block_on(outside::open());
        let driver = Machine::new(Part::Driver, Duration::ZERO);
        shared.set_driver(driver.clock, driver.cut.clone());
        let client = driver.block_on(outside::client(options, &shared, &driver, &store));
        let sim = Sim {
            rng: rng(shared.seed, "test"),
            store: store.with_executor(Arc::new(outside::Aside(shared.clone()))),
            shared: shared.clone(),
            client,
        };
        let nodes = (0..shared.nodes()).map(|_| None).collect();
        let world = Self {
            shared,
            store,
            now: Duration::ZERO,
            nodes,
            driver,
            owners: Owners::default(),
        };
        (world, sim)
    }

    /// Returns the database, as it is outside of everything simulated.
    pub(super) fn store(&self) -> &Store {
        &self.store
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
            self.owners.look(&self.shared, self.now)?;
            self.shared.carry(self.now);
            let until = self.now + self.stride();
            self.deliver_to_driver(until);
            step = self.driver.run_with(until, &mut body);
        }
    }

    /// Returns how far parts may run without looking at one another.
    fn stride(&self) -> Duration {
        let quiet = self.shared.network().is_quiet() && self.shared.wires().is_quiet();
        let alone = self.nodes.len() == 1 && quiet;
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
        machine.spawn(life::live(
            self.shared.clone(),
            self.builder(&machine),
            life::Place::of(&machine),
        ));
        self.nodes[node] = Some(machine);
    }

    fn builder(&self, machine: &Machine) -> NodeBuilder {
        let (shared, part, clock) = (self.shared.clone(), machine.part, machine.clock);
        let cut = machine.cut.clone();
        let seed = format!("{part:?}");
        let executor = SimExecutor::new(shared.clone(), part, clock, cut.clone());
        let random = rng(shared.seed, &seed);
        let sockets = SimSockets {
            shared: shared.clone(),
            part,
            clock,
        };
        let environment = Environment {
            store: Some(self.store.with_executor(Arc::new(executor))),
            life: Life::Lease {
                expected: self.nodes.len(),
            },
            rng: random,
            sockets: Arc::new(sockets),
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
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let roster = self
            .shared
            .roster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let install = *self
            .shared
            .install
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (weight, own) = match part {
            Part::Node { index, .. } => {
                let slot = self.shared.slot(index);
                (slot.weight.unwrap_or(1), slot.install)
            }
            Part::Driver => (1, None),
        };
        let settings = Settings {
            node_name: part.to_string(),
            shards: SHARDS,
            cluster_listen: Host::from(part).address(),
            cluster_secret: Some(Secret::new(SECRET)),
            lease_ttl: self.shared.lease_ttl(),
            weight,
            ..Settings::default()
        };
        let builder = Node::builder()
            .settings(settings)
            .environment(environment)
            .kinds(own.unwrap_or(install), resources)
            .singletons(roster);
        match self.shared.residents_max.load(Ordering::Relaxed) {
            0 => builder,
            most => builder.residents_max(most),
        }
    }

    fn deliver_to_driver(&mut self, until: Duration) {
        let arrivals = self.shared.network().arrivals(Part::Driver, until);
        for (at, packet) in arrivals {
            arrivals::deliver(&self.shared, &self.driver, at, packet);
        }
    }

    fn deliver_to_node(&mut self, node: usize, until: Duration) {
        let Some(machine) = &self.nodes[node] else {
            let refused = self.shared.network().requests_to(node, until);
            for (at, packet) in refused {
                arrivals::refuse(&self.shared, at, &packet, Undelivered::Down);
            }
            return;
        };
        let arrivals = self.shared.network().arrivals(machine.part, until);
        for (at, packet) in arrivals {
            arrivals::deliver(&self.shared, machine, at, packet);
        }
    }

    fn trace(&self, line: std::fmt::Arguments<'_>) {
        self.shared.trace.add(self.now, line);
    }
}
