//! The part of a node that runs components: which kinds it hosts, what they share, and the bounds.
//!
//! Not here: who owns which shard (actor-cluster decides, [`Shards`] knows) and what an activation
//! does (`entity/`).

mod delivery;
mod elsewhere;
mod handoff;
mod memory;
mod outlast;
mod reading;
mod residency;
mod start;
mod sweep;
mod taking;

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorCell;
use tokio::sync::oneshot;

use residency::Residents;
pub use residency::{Occupant, Resident};
pub use start::{HostingConfig, Resources};
pub use sweep::{STUCK_AFTER, STUCK_ROWS};

use crate::{
    client::{CALL_TIMEOUT_MAX, Client, Invocation},
    clock::{Clock, Instant, Rng},
    entity::{Encoded, EventHandler, Handlers, Method, Takeover},
    error::Refusal,
    groups::Groups,
    id::{CallId, CallIds, EntityId, Epoch, ShardId},
    mailbox::MailboxRow,
    meter::Meter,
    router::{IdSource, Probe, Router},
    shards::Shards,
    store::{BoxFuture, Store, StoreError, lane::Lanes},
    timers::Timers,
    topic::Topics,
    wheel::{Alarm, AlarmId, Wheel},
};

pub(crate) use self::reading::Looks;

/// The future of a call by name.
pub type Answer = Pin<Box<dyn Future<Output = Result<Encoded, Refusal>> + Send>>;

/// What kind of thing a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An entity whose state is lost when it leaves memory.
    Entity,
    /// An entity whose state is stored with each message.
    DurableEntity,
    /// A workflow; its runs are sagas.
    Workflow,
}

impl Role {
    /// Returns the word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::DurableEntity => "durable_entity",
            Self::Workflow => "workflow",
        }
    }

    /// Reads the word that is stored. One of a newer program counts as a volatile entity: calls to
    /// it are sent once.
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "durable_entity" => Self::DurableEntity,
            "workflow" => Self::Workflow,
            _ => Self::Entity,
        }
    }
}

/// One activation, for the dashboard.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id.
    pub id: EntityId,
    /// Its shard.
    pub shard: ShardId,
    /// Messages running and queued.
    pub depth: usize,
    /// When it was last used, if it is idle.
    pub idle_since: Option<Instant>,
    /// How often in a row it failed and was loaded again; 0 after a success, and for sagas, whose
    /// rows count it.
    pub failures: u32,
}

/// Sums over the activations of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct KindStats {
    /// Activations in memory.
    pub resident: usize,
    /// Messages running and queued.
    pub mailbox_depth: usize,
}

/// A kind as the node sees it.
pub trait Hosted: Send + Sync {
    /// Returns the stable name.
    fn kind(&self) -> &'static str;
    /// Returns the name of its group of shards.
    fn group(&self) -> &'static str;
    /// Returns what it is.
    fn role(&self) -> Role;
    /// Says whether the outside may call it.
    fn exposed(&self) -> bool;
    /// Says when a new owner of a shard may activate entities of this kind in it. Default: at once.
    fn takeover(&self) -> Takeover {
        Takeover::Early
    }
    /// Returns its methods.
    fn methods(&self) -> &'static [Method];
    /// Returns the events its entities receive.
    fn events(&self) -> &'static [EventHandler];
    /// Makes a call by name.
    fn invoke(self: Arc<Self>, client: Client, invocation: Invocation) -> Answer;
    /// As [`Hosted::invoke`], for a call that is made again at another node if it was in vain here,
    /// then as the call `message`: whatever its handler asks others meanwhile is asked under ids
    /// that derive from it, so that it counts once.
    fn invoke_as(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: CallId,
    ) -> Answer {
        let _ = message;
        self.invoke(client, invocation)
    }
    /// Hands over a stored message that is due; `since` as in [`Hosting::accept_row`].
    ///
    /// # Errors
    /// When it stays in the store for now.
    fn deliver(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
        row: &MailboxRow,
        since: u64,
    ) -> Result<(), Refusal>;
    /// A message was stored for the entity: it is read from the store in its place.
    ///
    /// # Errors
    /// When there is no room for its activation.
    fn ring(self: Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<(), Refusal>;
    /// Returns the activations in the order of their ids.
    fn targets(&self) -> Vec<Target>;
    /// Says whether the row is in memory.
    fn holds(&self, id: &EntityId, seq: i64) -> bool;
    /// Ends an activation if it is idle; says whether it did.
    fn evict(&self, id: &EntityId) -> bool;
    /// Lets the activations of these shards, sorted, end when they have run what they took in.
    fn retire(&self, shards: &[ShardId]);
    /// Ends the activations of these shards, sorted, or of all; queued calls are answered.
    fn stop_shards(&self, shards: Option<&[ShardId]>);
    /// Cuts off what still runs in these shards, sorted; its callers learn that the outcome is
    /// unknown.
    fn cut_off(&self, shards: &[ShardId]);
    /// Returns sums over the activations.
    fn stats(&self) -> KindStats;
    /// Returns the kind's counts.
    fn meter(&self) -> &Meter;
    /// Does the kind's own housekeeping, about once a minute: expired rows leave, gauges are set.
    ///
    /// # Errors
    /// When the store does not answer.
    fn sweep(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let _ = hosting;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What all components of a node share.
pub struct Hosting {
    kinds: BTreeMap<&'static str, Arc<dyn Hosted>>,
    types: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    resources: Resources,
    clock: Clock,
    rng: Rng,
    wheel: Arc<Wheel>,
    store: Store,
    lanes: OnceLock<Lanes>,
    shards: Arc<Shards>,
    groups: Arc<Groups>,
    topics: Arc<Topics>,
    timers: Timers,
    call_ids: CallIds,
    root: ActorCell,
    supervisors: Mutex<BTreeMap<ShardId, ActorCell>>,
    residents: Residents,
    activations: AtomicU64,
    draining: AtomicBool,
    /// Rows stay in SQL for want of room.
    held: AtomicBool,
    /// Rows that stayed in SQL may fit now.
    room: tokio::sync::Notify,
    /// A timer was stored by a peer.
    sooner: tokio::sync::Notify,
    /// By shard: rows up to this one were found after an unclean end of their former owner.
    suspects: Box<[AtomicI64]>,
    looks: Looks,
    declined: handoff::Declined,
    taken_up: taking::TakenUp,
    tasks: Mutex<tokio::task::JoinSet<()>>,
    router: Option<Arc<dyn Router>>,
    probe: Option<Arc<dyn Probe>>,
    ids: Option<Arc<dyn IdSource>>,
}

impl Hosting {
    /// Returns the kind with this name.
    ///
    /// # Errors
    /// `NotHosted` if there is none.
    pub fn hosted(&self, kind: &str) -> Result<&Arc<dyn Hosted>, Refusal> {
        self.kinds
            .get(kind)
            .ok_or_else(|| Refusal::NotHosted(format!("kind `{kind}` is not hosted here").into()))
    }

    /// Returns all kinds in the order of their names.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<dyn Hosted>> {
        self.kinds.values()
    }

    /// Returns what hosts the user's type `T`, as it was added to the
    /// [`Registry`](crate::Registry).
    ///
    /// # Errors
    /// `NotHosted` if the type was not added.
    pub fn host_of<T: 'static, H: Any + Send + Sync>(&self) -> Result<Arc<H>, Refusal> {
        let found = self.types.get(&TypeId::of::<T>()).cloned();
        found
            .and_then(|hosted| hosted.downcast::<H>().ok())
            .ok_or_else(|| {
                let name = std::any::type_name::<T>();
                Refusal::NotHosted(format!("`{name}` is not hosted here: add it to `.host`").into())
            })
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the committer lanes.
    pub fn lanes(&self) -> &Lanes {
        self.lanes
            .get()
            .expect("set before the hosting is handed out")
    }

    /// Returns the shards this node owns.
    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// Returns the groups that shards are in.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Returns the node's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the node's generator.
    pub fn rng(&self) -> &Rng {
        &self.rng
    }

    /// Returns the node's alarms.
    pub fn wheel(&self) -> &Arc<Wheel> {
        &self.wheel
    }

    /// Returns the topics as this node sees them.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Returns the source of call ids.
    pub fn call_ids(&self) -> &CallIds {
        &self.call_ids
    }

    /// Returns what makes ids that are unique in the cluster, where there is one.
    pub fn ids(&self) -> Option<&Arc<dyn IdSource>> {
        self.ids.as_ref()
    }

    /// Returns the timers of the next minute.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Returns the time now.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Returns a value the node was given.
    pub fn resource<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.resources.get()
    }

    /// Returns the shard of an entity.
    pub fn shard_of(&self, kind: &str, id: &str) -> ShardId {
        self.groups.shard_of(kind, id)
    }

    /// Returns the epoch under which this node owns `shard`.
    ///
    /// # Errors
    /// `Unavailable` if it does not, or its lease ran out.
    pub fn epoch(&self, shard: ShardId) -> Result<Epoch, Refusal> {
        let epoch = self.shards.epoch(shard);
        epoch
            .filter(|_| self.shards.lease_holds(self.now()))
            .ok_or_else(|| {
                Refusal::Unavailable(format!("shard {shard} is not owned by this node").into())
            })
    }

    /// Returns the epoch under which new work may begin in `shard`.
    ///
    /// # Errors
    /// As [`Hosting::epoch`], and `Unavailable` while the shard is handed over.
    pub fn admits(&self, shard: ShardId) -> Result<Epoch, Refusal> {
        let epoch = self.epoch(shard)?;
        if self.shards.serves(shard) {
            return Ok(epoch);
        }
        Err(Refusal::Unavailable(
            format!("shard {shard} is being handed over").into(),
        ))
    }

    /// Returns the way to an entity whose shard another node owns, or whose former owner may still
    /// run it; `None` if it is here, or there is no way to other nodes.
    pub fn route(&self, kind: &str, id: &str) -> Option<&Arc<dyn Router>> {
        let router = self.router.as_ref()?;
        let here = self.opens(kind, self.shard_of(kind, id));
        (!here).then_some(router)
    }

    /// Says whether work of a run may begin: its node stays and so does its shard.
    pub fn begins_in(&self, shard: ShardId) -> bool {
        self.accepting().is_ok() && self.shards.serves(shard)
    }

    /// Says whether `shard` went to another node, or is about to, and there is a way to it.
    pub fn moved(&self, shard: ShardId) -> bool {
        self.is_routed() && !self.shards.serves(shard)
    }

    /// Says whether there is a way to other nodes.
    pub(crate) fn is_routed(&self) -> bool {
        self.router.is_some()
    }

    /// Passes a point of interest, such as the end of a step that is not journaled yet. Completes
    /// at once except in a simulation that crashes the node there.
    pub async fn pass(&self, point: &str) {
        if let Some(probe) = &self.probe {
            probe.reached(point).await;
        }
    }

    /// Returns a number no other activation on this node has.
    pub fn next_activation(&self) -> u64 {
        self.activations.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails while the node drains.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn accepting(&self) -> Result<(), Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable("the node is draining".into()));
        }
        Ok(())
    }

    /// Returns when a call with this time-out ends.
    pub fn deadline(&self, timeout: Duration) -> Instant {
        self.now() + timeout.min(CALL_TIMEOUT_MAX)
    }

    /// Waits for an answer until `deadline`. Cancel safe: dropping abandons the answer.
    pub(crate) async fn answer_by<K: Handlers, T>(
        &self,
        deadline: Instant,
        mut receiver: oneshot::Receiver<Result<T, Refusal>>,
        queued: Option<(Arc<crate::entity::slot::Slot<K>>, u64)>,
    ) -> Result<T, Refusal> {
        let mut alarm = AlarmGuard {
            wheel: &self.wheel,
            id: None,
        };
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if let Poll::Ready(answer) = Pin::new(&mut receiver).poll(cx) {
                return Poll::Ready(answer.unwrap_or_else(|_| Err(gone())));
            }
            if self.now() >= deadline {
                let started = !queued
                    .as_ref()
                    .is_some_and(|(slot, number)| slot.withdraw(*number));
                return Poll::Ready(Err(Refusal::Timeout { started }));
            }
            alarm.arm(deadline, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits before a call is made again under its identity; ends with `refusal` at the deadline.
    pub async fn pause_before_retry(
        &self,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let pause = self.rng.jitter(RETRY_PAUSE, 50);
        if self.now() + pause >= deadline || self.draining.load(Ordering::Relaxed) {
            return Err(refusal);
        }
        self.clock.sleep(pause).await;
        Ok(())
    }

    /// Hands all counts and gauges to the metrics recorder; gateways call it before they render.
    pub fn publish_metrics(&self) {
        for hosted in self.kinds.values() {
            let stats = hosted.stats();
            hosted.meter().publish();
            metrics::gauge!("actor_entities", "kind" => hosted.kind()).set(stats.resident as f64);
            metrics::gauge!("actor_mailbox_depth", "kind" => hosted.kind())
                .set(stats.mailbox_depth as f64);
        }
        metrics::gauge!("actor_resident_bytes").set(self.resident_bytes() as f64);
        metrics::gauge!("actor_shards_owned").set(self.shards.owned().len() as f64);
        metrics::gauge!("actor_subscriptions").set(self.topics.subscriptions() as f64);
    }

    /// Returns the supervisor of a shard, starting it on first use.
    pub fn supervisor(&self, shard: ShardId) -> Result<ActorCell, Refusal> {
        let mut supervisors = self
            .supervisors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = supervisors.get(&shard) {
            return Ok(cell.clone());
        }
        let cell = crate::supervise::shard_supervisor(shard, self.root.clone())?;
        supervisors.insert(shard, cell.clone());
        Ok(cell)
    }

    /// Returns the supervisor of everything on this node; what is linked to it ends with the node.
    pub fn root(&self) -> &ActorCell {
        &self.root
    }

    /// Notes that what waits in `shard` up to the row `seq` may have killed its former owner.
    pub fn suspect(&self, shard: ShardId, seq: i64) {
        if let Some(up_to) = self.suspects.get(shard.0 as usize) {
            up_to.fetch_max(seq, Ordering::Relaxed);
        }
    }

    /// Says whether the row may have killed the former owner of its shard.
    pub fn is_suspect(&self, shard: ShardId, seq: i64) -> bool {
        let up_to = self.suspects.get(shard.0 as usize);
        up_to.is_some_and(|up_to| seq <= up_to.load(Ordering::Relaxed))
    }
}

/// The pause before a call is made again under its identity, +-50 %.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The refusal for a reply that was dropped: its handler was cut off.
pub(crate) fn gone() -> Refusal {
    Refusal::UnknownOutcome("the entity was stopped while it ran".into())
}

/// An alarm that is taken back when its waiter is done.
pub(crate) struct AlarmGuard<'a> {
    pub(crate) wheel: &'a Wheel,
    pub(crate) id: Option<AlarmId>,
}

impl AlarmGuard<'_> {
    pub(crate) fn arm(&mut self, deadline: Instant, waker: &std::task::Waker) {
        match self.id {
            Some(id) if self.wheel.rewake(id, waker) => {}
            _ => self.id = Some(self.wheel.set(deadline, Alarm::Wake(waker.clone()))),
        }
    }
}

impl Drop for AlarmGuard<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.wheel.cancel(id);
        }
    }
}

impl fmt::Debug for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting")
            .field("kinds", &self.kinds.keys())
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
