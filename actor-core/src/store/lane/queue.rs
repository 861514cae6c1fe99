//! What waits for the lanes, who may begin a batch, and what is remembered between batches.
//!
//! All lanes share one queue: whoever is free takes of what waits, so that batches are as large as
//! the load allows. What one transaction costs is mostly its own, whatever the number of its items;
//! but one that holds everything leaves its database one connection to work on, and nothing to do
//! while the answers are told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::item::{Item, NO_ACTIVATION, Verdict, Write};
use crate::{
    clock::Clock,
    id::{Epoch, ShardId},
    store::{StoreError, StoreErrorKind},
};

/// A batch of so many items is worth a transaction of its own, whatever others are under way.
const WORTH_ALONE: usize = 256;

/// A batch beside others takes half of what is outstanding, but has room for so many: below that
/// what a transaction costs by itself outweighs what two of them side by side gain. Measured with
/// PostgreSQL on two cores, where half an idle core became busy at 64 callers.
const HALF_MIN: usize = 32;

/// So many items may begin beside others although those are more, if they are an even part.
const PART_MIN: usize = 16;

/// How long a smaller one waits for those under way: one that hangs must not hold the others up.
const WAITS_FOR_OTHERS: Duration = Duration::from_millis(5);

/// The part of an item that a transaction needs.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    pub(super) activation: u64,
    pub(super) writes: Vec<Write>,
}

/// The part of an item that waits for the verdict.
pub(super) type Done = Box<dyn FnOnce(Verdict) + Send>;

struct Queued {
    body: Body,
    done: Done,
    bytes: usize,
}

/// The lanes' queue: bounded, shared between everybody who submits and the lanes' tasks.
#[derive(Debug)]
pub(super) struct Queue {
    items_max: usize,
    /// Whether there is more than one lane, so that batches may be under way side by side.
    shared: bool,
    /// How many items wait, to be read without the lock.
    depth: AtomicUsize,
    state: Mutex<State>,
    arrived: Notify,
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// What may go into the next batch.
    items: VecDeque<Queued>,
    /// What waits for the batch that its shard is in.
    blocked: BTreeMap<ShardId, VecDeque<Queued>>,
    /// The shards of the batches under way, if there may be several.
    ///
    /// Invariant: a shard is in one batch at a time, so its items are stored in order, and an
    /// unclear end is settled before anything else happens there.
    busy: BTreeSet<ShardId>,
    /// How many items are under way, and in how many batches.
    running: usize,
    batches: usize,
    closed: bool,
    /// Activations of which an item was not committed, until somebody forgets them.
    failed: BTreeSet<u64>,
    /// Shards with an unclear commit, and how many.
    unsettled: BTreeMap<ShardId, usize>,
}

impl Queue {
    /// Makes the queue of so many lanes.
    pub(super) fn new(items_max: usize, lanes: usize) -> Self {
        Self {
            items_max: items_max.saturating_mul(lanes),
            shared: lanes > 1,
            depth: AtomicUsize::new(0),
            state: Mutex::default(),
            arrived: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Appends an item, or tells it at once that it cannot.
    pub(super) fn push(&self, item: Item) {
        let bytes = item.writes.iter().map(Write::bytes).sum();
        let (body, done) = split(item);
        let mut state = self.lock();
        let refused = refusal(&state, self.items_max);
        if let Some(error) = refused {
            state.fail(body.activation);
            drop(state);
            return done(Verdict::Failed(error));
        }
        let first = state.items.is_empty();
        state.add(Queued { body, done, bytes });
        self.depth.store(state.depth(), Ordering::Relaxed);
        // The first one wakes a lane in any case, to see that it does not wait for too long.
        let wake = state.may_begin() || (first && !state.items.is_empty());
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits until a batch may begin; says whether it must, because it has waited long enough.
    /// `None` once the queue is closed and empty.
    ///
    /// A batch begins beside others only if it is as large as all of them together, or as large as
    /// each would be if all that is outstanding were dealt out evenly: with few callers that
    /// answers at once, and with many it makes few transactions, of which two overlap.
    pub(super) async fn wait(&self, clock: Clock) -> Option<bool> {
        loop {
            // Made before the look, so that a wake-up between look and wait is not lost.
            let arrived = self.arrived.notified();
            let idle = {
                let state = self.lock();
                if state.may_begin() {
                    return Some(false);
                }
                if state.closed && state.items.is_empty() {
                    return None;
                }
                state.items.is_empty()
            };
            if idle {
                arrived.await;
                continue;
            }
            // Both arms only wait.
            tokio::select! {
                biased;
                () = arrived => {}
                () = clock.sleep(WAITS_FOR_OTHERS) => return Some(true),
            }
        }
    }

    /// Takes the oldest items within the bounds, at least one if there is any; none if another lane
    /// took them and the rest is not worth a batch, unless it `must`.
    ///
    /// [`Queue::finished`] must be called with what is returned.
    pub(super) fn take(
        &self,
        must: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> (Vec<Body>, Vec<Done>) {
        let mut state = self.lock();
        let (mut bodies, mut dones, mut bytes) = (Vec::new(), Vec::new(), 0);
        if !must && !state.may_begin() {
            return (bodies, dones);
        }
        let items_max = match self.shared {
            true => items_max.min(state.half()),
            false => items_max,
        };
        while let Some(next) = state.items.front() {
            let full = bodies.len() >= items_max || bytes + next.bytes > bytes_max;
            if full && !bodies.is_empty() {
                break;
            }
            if let Some(item) = state.items.pop_front() {
                bytes += item.bytes;
                bodies.push(item.body);
                dones.push(item.done);
            }
        }
        state.running += bodies.len();
        state.batches += usize::from(!bodies.is_empty());
        if self.shared {
            state.busy.extend(bodies.iter().map(|body| body.shard));
            for left in std::mem::take(&mut state.items) {
                state.add(left);
            }
        }
        self.depth.store(state.depth(), Ordering::Relaxed);
        let more = state.may_begin();
        drop(state);
        if more {
            self.arrived.notify_one();
        }
        (bodies, dones)
    }

    /// A batch of so many items, of these shards, has all its verdicts.
    pub(super) fn finished(&self, items: usize, shards: &BTreeSet<ShardId>) {
        let mut state = self.lock();
        state.running -= items;
        state.batches -= 1;
        for shard in shards {
            state.busy.remove(shard);
            if let Some(blocked) = state.blocked.remove(shard) {
                state.items.extend(blocked);
            }
        }
        let wake = state.may_begin();
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Says whether it is half full: who need not add to it should wait.
    pub(super) fn is_pressed(&self) -> bool {
        self.depth() * 2 >= self.items_max
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn fail(&self, activation: u64) {
        self.lock().fail(activation);
    }

    pub(super) fn forget(&self, activation: u64) {
        self.lock().failed.remove(&activation);
    }

    pub(super) fn has_failed(&self, activation: u64) -> bool {
        self.lock().failed.contains(&activation)
    }

    /// Returns of how many activations it is remembered that an item was not committed.
    pub(super) fn failed(&self) -> usize {
        self.lock().failed.len()
    }

    /// Marks shards as touched by an unclear commit.
    pub(super) fn unsettle(&self, shards: impl Iterator<Item = ShardId>) {
        let mut state = self.lock();
        for shard in shards {
            *state.unsettled.entry(shard).or_default() += 1;
        }
    }

    /// Takes the mark of [`Queue::unsettle`] back and wakes who waited for it.
    pub(super) fn settle(&self, shards: impl Iterator<Item = ShardId>) {
        let mut state = self.lock();
        for shard in shards {
            if let Some(count) = state.unsettled.get_mut(&shard) {
                *count -= 1;
            }
        }
        state.unsettled.retain(|_, count| *count > 0);
        drop(state);
        self.settled.notify_waiters();
    }

    /// Waits until `shard` carries no mark.
    pub(super) async fn settled(&self, shard: ShardId) {
        loop {
            // Made before the look, so that a wake-up between look and wait is not lost.
            let woken = self.settled.notified();
            if !self.lock().unsettled.contains_key(&shard) {
                return;
            }
            woken.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, item: Queued) {
        let shard = item.body.shard;
        if self.busy.contains(&shard) {
            self.blocked.entry(shard).or_default().push_back(item);
        } else {
            self.items.push_back(item);
        }
    }

    fn fail(&mut self, activation: u64) {
        if activation != NO_ACTIVATION {
            self.failed.insert(activation);
        }
    }

    fn may_begin(&self) -> bool {
        let (waiting, running) = (self.items.len(), self.running);
        let is_part = waiting >= PART_MIN && waiting * (self.batches + 2) >= waiting + running;
        waiting > 0 && (waiting >= running.min(WORTH_ALONE) || is_part)
    }

    /// Returns how many items a batch takes at most while others may be under way beside it.
    fn half(&self) -> usize {
        HALF_MIN.max((self.items.len() + self.running).div_ceil(2))
    }

    fn depth(&self) -> usize {
        self.items.len() + self.blocked.values().map(VecDeque::len).sum::<usize>()
    }
}

fn split(item: Item) -> (Body, Done) {
    let body = Body {
        shard: item.shard,
        epoch: item.epoch,
        activation: item.activation,
        writes: item.writes,
    };
    (body, item.done)
}

/// Says why no item can be queued now.
fn refusal(state: &State, items_max: usize) -> Option<StoreError> {
    if state.closed {
        let message = "the node has stopped storing";
        return Some(StoreError::new(StoreErrorKind::Unavailable, message));
    }
    if state.depth() >= items_max {
        let message = format_args!("{items_max} commits wait already");
        return Some(StoreError::new(StoreErrorKind::Overloaded, message));
    }
    None
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("items", &self.items.len())
            .field("blocked", &self.blocked.len())
            .field("running", &self.running)
            .field("batches", &self.batches)
            .field("closed", &self.closed)
            .field("failed", &self.failed)
            .field("unsettled", &self.unsettled)
            .finish()
    }
}

#[cfg(test)]
mod tests;
