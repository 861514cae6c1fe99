//! The part of a node that runs components: which kinds it hosts, what they share, and the bounds.
//!
//! Not here: who owns which shard (actor-cluster decides, [`Shards`] knows) and what an activation
//! does (`entity/`).

mod awaiting;
mod delivery;
mod elsewhere;
mod failed;
mod handoff;
mod hosted;
mod memory;
mod outlast;
mod polling;
mod reading;
mod residency;
mod search;
mod start;
mod sweep;
mod taking;

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use ractor::ActorCell;

pub(crate) use awaiting::{AlarmGuard, gone};
pub use hosted::{Answer, Hosted, KindStats, Role, Target};
pub(crate) use reading::Looks;
use residency::Residents;
pub use residency::{Occupant, Resident};
pub use start::{HostingConfig, Resources};
pub use sweep::{STUCK_AFTER, STUCK_ROWS};

use crate::{
    clock::{Clock, Instant, Rng},
    error::Refusal,
    groups::Groups,
    id::{CallIds, Epoch, ShardId},
    router::{IdSource, Probe, Router},
    shards::Shards,
    store::{Store, lane::Lanes},
    timers::Timers,
    topic::Topics,
    wheel::Wheel,
};

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
        metrics::counter!("actor_room_searches_total").absolute(self.room_searches());
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

impl fmt::Debug for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting")
            .field("kinds", &self.kinds.keys())
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
