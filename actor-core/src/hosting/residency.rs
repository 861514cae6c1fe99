//! How many activations a node keeps in memory, and which one leaves when it is full.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::{Hosted, Hosting, Role, search::Search};
use crate::{
    clock::Instant,
    error::Refusal,
    id::{EntityId, ShardId},
};

/// Activations in memory unless the configuration says otherwise.
pub(super) const RESIDENTS_MAX: usize = 100_000;

/// What a caller is told to wait when nothing is idle.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// What an activation without state is counted as: its actor, its queue, its place in the maps.
/// Measured by `bench spawn_idle`.
const ACTIVATION_BYTES: usize = 16 * 1024;

/// The activations in memory, and how many there may be.
#[derive(Debug)]
pub(super) struct Residents {
    count: AtomicUsize,
    count_max: usize,
    bytes: AtomicUsize,
    bytes_max: usize,
    by_shard: Box<[AtomicUsize]>,
    /// Looks for idle ones when there are too many.
    search: Search,
    /// A shard lost its last one.
    emptied: Notify,
}

impl Residents {
    pub(super) fn new(count_max: usize, bytes_max: usize, shards: u32) -> Self {
        Self {
            by_shard: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            emptied: Notify::new(),
            search: Search::default(),
            count: AtomicUsize::new(0),
            count_max: count_max.max(1),
            bytes: AtomicUsize::new(0),
            bytes_max: bytes_max.max(1024 * 1024),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until some of these shards have no activation, and returns them. Cancel safe: it only
    /// waits.
    pub(super) async fn emptied(&self, shards: &[ShardId]) -> Vec<ShardId> {
        loop {
            // Made before the look, so that a wake-up between look and wait is not lost.
            let emptied = self.emptied.notified();
            let empty = shards.iter().filter(|shard| self.in_shard(**shard) == 0);
            let empty: Vec<_> = empty.copied().collect();
            if !empty.is_empty() {
                return empty;
            }
            emptied.await;
        }
    }

    fn in_shard(&self, shard: ShardId) -> usize {
        let count = self.by_shard.get(shard.0 as usize);
        count.map_or(0, |count| count.load(Ordering::SeqCst))
    }

    fn enter(&self, shard: ShardId) {
        if let Some(count) = self.by_shard.get(shard.0 as usize) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn leave(&self, shard: ShardId) {
        let here = self.by_shard.get(shard.0 as usize);
        if here.is_some_and(|count| count.fetch_sub(1, Ordering::SeqCst) == 1) {
            self.emptied.notify_waiters();
        }
    }

    fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.count_max
            || self.bytes().saturating_add(ACTIVATION_BYTES) > self.bytes_max
    }

    /// How many leave when it is full: a hundredth, so that the search is paid for rarely.
    fn leaving(&self) -> usize {
        (self.count.load(Ordering::Relaxed) / 100).max(1)
    }
}

/// One activation in memory; it counts until this is dropped.
#[derive(Debug)]
pub struct Resident {
    hosting: Arc<Hosting>,
    shard: ShardId,
    bytes: usize,
}

impl Resident {
    /// Counts the activation with a stored state of this many bytes: they are kept as they are
    /// and, in some form, by the entity itself.
    pub fn resize(&mut self, state_bytes: usize) {
        let bytes = ACTIVATION_BYTES + 2 * state_bytes;
        let total = &self.hosting.residents.bytes;
        if bytes > self.bytes {
            total.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            total.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let residents = &self.hosting.residents;
        residents.count.fetch_sub(1, Ordering::Relaxed);
        residents.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        residents.leave(self.shard);
    }
}

/// Something that is no activation and runs in a shard: the shard's handoff waits until this is
/// dropped.
#[derive(Debug)]
pub struct Occupant {
    hosting: Arc<Hosting>,
    shard: ShardId,
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.hosting.residents.leave(self.shard);
    }
}

impl Hosting {
    /// Returns the bytes activations are counted as.
    pub fn resident_bytes(&self) -> usize {
        self.residents.bytes()
    }

    /// Says whether anything of this shard is in memory, be it about to leave.
    pub fn runs_in(&self, shard: ShardId) -> bool {
        self.residents.in_shard(shard) > 0
    }

    /// Returns how often it was looked for idle activations, to make room for others.
    pub fn room_searches(&self) -> u64 {
        self.residents.search.count()
    }

    /// Says whether the node has as many activations as it may.
    pub(super) fn is_full(&self) -> bool {
        self.residents.is_full()
    }

    /// Lets something that is no activation run in a shard; `None` if nothing new may begin there.
    pub fn occupy(self: &Arc<Self>, shard: ShardId) -> Option<Occupant> {
        // Counted first: a handoff that begins now sees it, or is seen here.
        self.residents.enter(shard);
        let occupant = Occupant {
            hosting: self.clone(),
            shard,
        };
        self.shards.serves(shard).then_some(occupant)
    }

    /// Makes room for one more activation of this shard and counts it.
    ///
    /// # Errors
    /// `Overloaded` if there are too many and none is idle.
    pub fn resident(self: &Arc<Self>, shard: ShardId) -> Result<Resident, Refusal> {
        self.make_room()?;
        self.residents.count.fetch_add(1, Ordering::Relaxed);
        self.residents.enter(shard);
        let mut resident = Resident {
            hosting: self.clone(),
            shard,
            bytes: 0,
        };
        resident.resize(0);
        Ok(resident)
    }

    /// Says whether something waits for room: stored messages, or callers that were refused.
    pub(crate) fn lacks_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) || self.residents.search.is_in_vain()
    }

    /// An activation became idle: there is room, and rows that found none are tried again.
    pub(crate) fn became_idle(&self) {
        self.residents.search.became_idle();
        if self.held.swap(false, Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Makes room for one more activation: at a cap, idle ones leave, least recently used first,
    /// durable kinds before volatile ones.
    ///
    /// # Errors
    /// `Overloaded` if none is idle.
    fn make_room(&self) -> Result<(), Refusal> {
        let full = self.is_full();
        if !full || self.residents.search.run(self.now(), || self.evict_idle()) {
            return Ok(());
        }
        Err(Refusal::Overloaded {
            retry_after: RETRY_AFTER,
        })
    }

    /// Lets a part of the idle activations leave; returns how many do.
    fn evict_idle(&self) -> usize {
        let mut idle: Vec<(bool, Instant, &Arc<dyn Hosted>, EntityId)> = Vec::new();
        for hosted in self.kinds.values() {
            let volatile = hosted.role() == Role::Entity;
            let of_kind = hosted.idle().into_iter();
            idle.extend(of_kind.map(|(since, id)| (volatile, since, hosted, id)));
        }
        let order = |a: &(_, _, &Arc<dyn Hosted>, _), b: &(_, _, &Arc<dyn Hosted>, _)| {
            (a.0, a.1, a.2.kind(), &a.3).cmp(&(b.0, b.1, b.2.kind(), &b.3))
        };
        let wanted = self.residents.leaving();
        if wanted < idle.len() {
            // Only those that leave are put in order; the others take the place of who was called
            // meanwhile.
            idle.select_nth_unstable_by(wanted, order);
        }
        let first = wanted.min(idle.len());
        idle[..first].sort_unstable_by(order);
        let left = idle.iter().filter(|(_, _, hosted, id)| hosted.evict(id));
        left.take(wanted).count()
    }
}
