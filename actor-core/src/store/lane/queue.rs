//! What waits for a lane, and what the lane remembers between batches.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::item::{Item, Verdict, Write};
use crate::{
    id::{Epoch, ShardId},
    store::{StoreError, StoreErrorKind},
};

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

/// One lane's queue: bounded, shared between everybody who submits and the lane's task.
#[derive(Debug)]
pub(super) struct Queue {
    items_max: usize,
    /// How many items wait, to be read without the lock.
    depth: AtomicUsize,
    state: Mutex<State>,
    arrived: Notify,
    settled: Notify,
}

#[derive(Default)]
struct State {
    items: VecDeque<Queued>,
    closed: bool,
    /// Activations of which an item was not committed, until somebody forgets them.
    failed: BTreeSet<u64>,
    /// Shards with an unclear commit, and how many.
    unsettled: BTreeMap<ShardId, usize>,
}

impl Queue {
    pub(super) fn new(items_max: usize) -> Self {
        Self {
            items_max,
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
            state.failed.insert(body.activation);
            drop(state);
            return done(Verdict::Failed(error));
        }
        let first = state.items.is_empty();
        state.items.push_back(Queued { body, done, bytes });
        self.depth.store(state.items.len(), Ordering::Relaxed);
        drop(state);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Waits until there is an item or the queue is closed; false once it is closed and empty.
    pub(super) async fn wait(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.items.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest items, at least one if there is any, within the bounds.
    pub(super) fn take(&self, items_max: usize, bytes_max: usize) -> (Vec<Body>, Vec<Done>) {
        let mut state = self.lock();
        let (mut bodies, mut dones, mut bytes) = (Vec::new(), Vec::new(), 0);
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
        self.depth.store(state.items.len(), Ordering::Relaxed);
        (bodies, dones)
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
        self.arrived.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn fail(&self, activation: u64) {
        self.lock().failed.insert(activation);
    }

    pub(super) fn forget(&self, activation: u64) {
        self.lock().failed.remove(&activation);
    }

    pub(super) fn has_failed(&self, activation: u64) -> bool {
        self.lock().failed.contains(&activation)
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
    if state.items.len() >= items_max {
        let message = format_args!("{items_max} commits wait already");
        return Some(StoreError::new(StoreErrorKind::Overloaded, message));
    }
    None
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("items", &self.items.len())
            .field("closed", &self.closed)
            .field("failed", &self.failed)
            .field("unsettled", &self.unsettled)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering};

    use super::*;

    fn item(activation: u64, bytes: usize, told: &Arc<AtomicUsize>) -> Item {
        let told = Arc::clone(told);
        let data = vec![0; bytes].into();
        let (topic, name) = ("".into(), "".into());
        Item {
            shard: ShardId(0),
            epoch: Epoch(1),
            activation,
            sequence: 1,
            writes: vec![Write::Event {
                topic,
                name,
                key: None,
                data,
            }],
            done: Box::new(move |_| {
                told.fetch_add(1, Ordering::Relaxed);
            }),
        }
    }

    #[test]
    fn above_the_bound_an_item_is_told_at_once_and_its_activation_has_failed() {
        let (queue, told) = (Queue::new(2), Arc::default());
        for activation in [7, 8, 9] {
            queue.push(item(activation, 1, &told));
        }

        assert_eq!((queue.depth(), told.load(Ordering::Relaxed)), (2, 1));
        assert!(queue.has_failed(9) && !queue.has_failed(8));
        queue.forget(9);
        assert!(!queue.has_failed(9));
    }

    #[test]
    fn a_batch_is_bounded_in_items_and_in_bytes_but_never_empty() {
        let (queue, told) = (Queue::new(99), Arc::default());
        for bytes in [50, 5, 5, 5, 5] {
            queue.push(item(1, bytes, &told));
        }

        assert_eq!(queue.take(9, 10).0.len(), 1);
        assert_eq!(queue.take(9, 10).0.len(), 2);
        assert_eq!(queue.take(1, 10).0.len(), 1);
        assert_eq!(queue.take(9, 10).0.len(), 1);
        assert_eq!(queue.take(9, 10).0.len(), 0);
    }
}
