//! What a test does to a simulation.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use actor_core::{
    Client, Component,
    clock::{Clock, Rng},
    entity::Handlers,
    store::{BoxFuture, Store},
};
use tokio::sync::oneshot;

use super::{
    fault::Fault,
    network::{Broken, Parcel, Part},
    shared::{Command, Shared},
};
use crate::{Node, Singleton, node::Stopped};

/// How long [`Sim::restart`] waits for a node, in virtual time.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A simulation, as its test sees it: a client of the cluster that also owns time and bad luck.
/// Cheap to clone.
///
/// Nodes are named by their index, from 0.
#[derive(Clone, Debug)]
pub struct Sim {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) rng: Rng,
    pub(super) store: Store,
}

impl AsRef<Client> for Sim {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl Sim {
    /// Returns a client outside of all nodes. Its calls cross a network with latency to whichever
    /// node owns the entity; they wait while there is none, until their deadline.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the entity `id` of kind `K`, as [`Client::entity`].
    pub fn entity<K: Handlers>(&self, id: impl fmt::Display) -> K::Ref {
        self.client.entity::<K>(id)
    }

    /// Lets time pass, for everybody. When it returns, all nodes have come as far as the test.
    pub async fn advance(&self, duration: Duration) {
        Clock.sleep(duration).await;
        self.barrier().await;
    }

    /// Returns the time since the simulation began.
    pub fn now(&self) -> Duration {
        self.shared.driver_clock().now()
    }

    /// Returns the database's time, in milliseconds since 1970.
    pub fn database_ms(&self) -> i64 {
        self.shared.database_ms(self.now())
    }

    /// Returns the number that decides everything in this run.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Returns the test's own generator, decided by the seed.
    pub fn rng(&self) -> &Rng {
        &self.rng
    }

    /// Returns how many nodes there are, up or down.
    pub fn nodes(&self) -> usize {
        self.shared.nodes()
    }

    /// Gives all nodes a value that handlers reach with `ctx.resource()`. Nodes that started
    /// already do not see it: call it before the test's first `await`.
    pub fn provide<T: Any + Send + Sync>(&self, value: T) {
        let mut resources = self
            .shared
            .resources
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        resources.insert(value);
    }

    /// Gives all nodes a singleton, as [`NodeBuilder::singleton`](crate::NodeBuilder::singleton),
    /// each from its next start on: call it before the test's first `await`.
    pub fn singleton<F, R>(&self, name: &str, body: F)
    where
        F: Fn(Singleton) -> R + Send + Sync + 'static,
        R: Future<Output = actor_core::Result<()>> + Send + 'static,
    {
        let mut roster = self
            .shared
            .roster
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        roster.add(name, body);
    }

    /// Bounds the entities in memory on each node, from its next start on; at least 1.
    pub fn residents_max(&self, most: usize) {
        let bound = &self.shared.residents_max;
        bound.store(most.max(1), std::sync::atomic::Ordering::Relaxed);
    }

    /// Sets how long leases last, for nodes from their next start on; default 10 s. Call it before
    /// the test's first `await`, so that all agree.
    pub fn lease_ttl(&self, ttl: Duration) {
        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let shared = &self.shared.lease_ms;
        shared.store(ms, std::sync::atomic::Ordering::Relaxed);
    }

    /// Sets how large a node's part of the shards is, from its next start on; default 1, 0 for one
    /// that only sends.
    pub fn weigh(&self, node: usize, weight: u32) {
        self.shared.slot(node).weight = Some(weight);
    }

    /// Lets one node host `C` instead of what all nodes do, from its next start on: call it before
    /// the test's first `await`. The test itself calls with all types it began with.
    pub fn host_on<C: Component>(&self, node: usize) {
        self.shared.slot(node).install = Some(C::install);
    }

    /// Lets all nodes host `C` instead of what they host now, each from its next start on: the next
    /// release of the program. The test itself keeps calling with the types it began with.
    pub fn release<C: Component>(&self) {
        let mut install = self
            .shared
            .install
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *install = C::install;
    }

    /// Crashes a node: everything in its memory is gone, nothing is said to anybody. It stays down
    /// until [`Sim::restart`].
    pub fn crash(&self, node: usize) {
        drop(self.shared.slot(node));
        self.shared.command(Command::Crash(node));
    }

    /// Crashes the node that next passes the point `name`: for a saga's step, when its effect is
    /// done and not journaled yet. The node starts again by itself after about a second.
    pub fn crash_after(&self, name: &str) {
        self.shared.crash_at(name);
    }

    /// Starts the next life of a node that is down, and waits until it is up.
    ///
    /// # Panics
    /// If it is not up after a minute: the test cannot go on.
    pub async fn restart(&self, node: usize) {
        self.barrier().await;
        self.shared.command(Command::Start(node));
        let give_up = Clock.now() + START_PATIENCE;
        while !self.is_up(node) {
            if Clock.now() >= give_up {
                let trouble = self.shared.slot(node).trouble.clone().unwrap_or_default();
                panic!("node {node} is not up after {START_PATIENCE:?}: {trouble}");
            }
            Clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the next life of a node that is down, and does not wait for it.
    pub fn start_node(&self, node: usize) {
        drop(self.shared.slot(node));
        self.shared.command(Command::Start(node));
    }

    /// Stops a node in order: it drains, gives up its shards and leaves. It stays down until
    /// [`Sim::restart`]. Returns `None` if it died meanwhile or is not up.
    pub async fn shutdown(&self, node: usize) -> Option<Stopped> {
        let stopped = self
            .run_on(node, |node| async move { node.shutdown().await })
            .await
            .ok();
        self.crash(node);
        self.barrier().await;
        stopped
    }

    /// Stops stepping a node, as if its machine hung: its lease runs out, its clock goes on.
    pub fn freeze(&self, node: usize) {
        drop(self.shared.slot(node));
        self.shared.command(Command::Freeze(node));
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, node: usize) {
        drop(self.shared.slot(node));
        self.shared.command(Command::Thaw(node));
    }

    /// Says whether a node has finished its start and runs.
    pub fn is_up(&self, node: usize) -> bool {
        let slot = self.shared.slot(node);
        slot.up && slot.node.is_some()
    }

    /// Plans a fault of a node's store calls, beside those planned before.
    pub fn fault(&self, node: usize, fault: Fault) {
        self.shared.slot(node).faults.push(fault);
    }

    /// Forgets a node's planned faults.
    pub fn clear_faults(&self, node: usize) {
        self.shared.slot(node).faults.clear();
    }

    /// Returns how many store calls a node began, in all its lives.
    pub fn store_calls(&self, node: usize) -> u64 {
        self.shared.slot(node).store_calls
    }

    /// Returns the node that owns an entity, if one does.
    pub fn owner<K: Handlers>(&self, id: impl fmt::Display) -> Option<usize> {
        self.shared.owner(K::KIND, &id.to_string())
    }

    /// Runs something inside a node, without a network between it and the node's entities.
    ///
    /// # Errors
    /// When the node was not up, or died before it answered.
    pub async fn run_on<T, F, R>(&self, node: usize, run: F) -> Result<T, Broken>
    where
        T: Send + 'static,
        F: FnOnce(Node) -> R + Send + 'static,
        R: Future<Output = T> + Send + 'static,
    {
        let work = move |node: Node| -> BoxFuture<'static, Parcel> {
            let run = run(node);
            Box::pin(async move { Box::new(run.await) as Parcel })
        };
        let (_, answer) = self
            .shared
            .send(Part::Driver, self.now(), node, Box::new(work));
        match answer.await.unwrap_or(Err(Broken::Unanswered)) {
            Ok(parcel) => Ok(*parcel.downcast().expect("the work returns a T")),
            Err(broken) => Err(broken),
        }
    }

    /// Returns the world's database, for looking into it. Its calls take no virtual time and meet
    /// no faults.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl fmt::Display) {
        self.shared.trace.add(self.now(), format_args!("{line}"));
    }

    /// Returns a number that two runs share only if everything happened alike, up to now.
    pub fn trace_hash(&self) -> u64 {
        self.shared.trace.hash()
    }

    /// Waits until all nodes have come as far as the test.
    async fn barrier(&self) {
        let (sender, reached) = oneshot::channel();
        self.shared.command(Command::Barrier(sender));
        // The world only ends with the test's body.
        let _ = reached.await;
    }
}
