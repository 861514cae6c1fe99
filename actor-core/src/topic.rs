//! Topics as one node sees them: who listens here, and what to tell them.
//!
//! Events are rows (`store/topics.rs`); after their commit they are announced here, and told in
//! order: what came early waits (`order`), what does not come is read (`gaps`). A subscriber has
//! a bounded queue; one that falls behind is cut off and may come back with its position.

mod subscription;

pub(crate) mod gaps;
pub(crate) mod history;
mod order;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

pub use self::subscription::{Subscribed, Subscription};
use self::{
    history::History,
    order::{Order, Turn},
};
use crate::clock::{Clock, Instant};

/// Events a subscriber may lag behind before it is cut off.
pub const SUBSCRIBER_QUEUE: usize = 256;

/// A place in a topic: the life of its numbering, and the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Changes when numbering starts anew, so that old offsets are not mistaken for new ones.
    pub epoch: u64,
    /// Counts from 1 without gaps.
    pub offset: u64,
}

impl Position {
    /// Says whether whoever was told up to here was told `other`, too.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.epoch == other.epoch && other.offset <= self.offset
    }

    /// Says whether `next` is the place right behind this one. Before the first event of a topic
    /// there is no numbering yet.
    pub(crate) fn precedes(self, next: Self) -> bool {
        (self.epoch == next.epoch || self.epoch == 0) && next.offset == self.offset + 1
    }
}

/// An announced event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicEvent {
    /// The topic.
    pub topic: Arc<str>,
    /// Its place.
    pub position: Position,
    /// The event's name.
    pub name: Arc<str>,
    /// JSON.
    pub data: Arc<[u8]>,
}

/// Of the topics for which somebody waits to learn it: how many do, and under which numbering they
/// were last announced; 0 if they were not meanwhile. No others: there is no bound on topics.
type Numberings = BTreeMap<Arc<str>, (usize, u64)>;

/// Waits to learn the numbering of a topic.
#[derive(Debug)]
pub(crate) struct Numbering {
    topics: Arc<Topics>,
    topic: Arc<str>,
}

impl Numbering {
    /// Returns the numbering under which the topic was last announced; 0 if it was not meanwhile.
    pub(crate) fn epoch(&self) -> u64 {
        let numberings = self.topics.lock_numberings();
        numberings.get(&self.topic).map_or(0, |(_, epoch)| *epoch)
    }
}

impl Drop for Numbering {
    fn drop(&mut self) {
        let mut numberings = self.topics.lock_numberings();
        if let Some((waiting, _)) = numberings.get_mut(&self.topic) {
            *waiting -= 1;
            if *waiting == 0 {
                numberings.remove(&self.topic);
            }
        }
    }
}

/// Those who listen to one topic.
#[derive(Debug, Default)]
struct Audience {
    /// By their number.
    listeners: BTreeMap<u64, mpsc::Sender<Arc<TopicEvent>>>,
    order: Order,
}

impl Audience {
    /// Tells every listener. Never waits: a full queue cuts its listener off.
    fn tell(&mut self, event: &Arc<TopicEvent>) {
        self.listeners.retain(|_, sender| {
            let told = sender.try_send(event.clone()).is_ok();
            if !told {
                metrics::counter!("actor_slow_clients_total").increment(1);
            }
            told
        });
        metrics::counter!("actor_topic_events_total", "direction" => "out")
            .increment(self.listeners.len() as u64);
    }
}

/// Who listens to what.
#[derive(Debug, Default)]
struct Audiences {
    of: BTreeMap<Arc<str>, Audience>,
    /// The topics that miss an event, and some that do no more.
    missing: BTreeSet<Arc<str>>,
}

/// The listeners of one node.
#[derive(Debug, Default)]
pub struct Topics {
    audiences: Mutex<Audiences>,
    numberings: Mutex<Numberings>,
    next_id: AtomicU64,
    count: AtomicUsize,
    /// Wakes who closes gaps: somebody listens, or an event is missing.
    stirred: Notify,
}

impl Topics {
    /// Starts listening to `topic`. Nothing comes before [`Subscription::begin`].
    pub(crate) fn listen(self: &Arc<Self>, topic: &Arc<str>) -> Subscription {
        let (sender, events) = mpsc::channel(SUBSCRIBER_QUEUE);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut audiences = self.lock();
        let audience = audiences.of.entry(topic.clone()).or_default();
        audience.listeners.insert(id, sender);
        drop(audiences);
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.stirred.notify_one();
        }
        Subscription::new(self.clone(), topic.clone(), id, events)
    }

    /// Takes note of an event that was stored: its listeners are told once they were told all that
    /// is before it. Never waits.
    pub fn announce(&self, event: &Arc<TopicEvent>) {
        if let Some((_, epoch)) = self.lock_numberings().get_mut(&event.topic) {
            *epoch = event.position.epoch;
        }
        self.pass_on(event);
    }

    /// Tells an event if it is its turn, and those that waited for it; says whether it was told.
    fn pass_on(&self, event: &Arc<TopicEvent>) -> bool {
        let mut audiences = self.lock();
        let Some(audience) = audiences.of.get_mut(&event.topic) else {
            return false;
        };
        match audience.order.arrive(event, Clock.now()) {
            Turn::Past => false,
            Turn::Now => {
                audience.tell(event);
                let others_wait = audience.order.has_early();
                drop(audiences);
                if others_wait {
                    self.pass_on_early(&event.topic);
                }
                true
            }
            Turn::Later => {
                self.note_missing(&mut audiences, &event.topic);
                false
            }
        }
    }

    /// Tells what came early and whose turn is now. Each under a lock of its own: others must not
    /// wait for all.
    fn pass_on_early(&self, topic: &Arc<str>) {
        let pass_on_one = || {
            let mut audiences = self.lock();
            let audience = audiences.of.get_mut(topic)?;
            let event = audience.order.next(Clock.now())?;
            audience.tell(&event);
            Some(())
        };
        while pass_on_one().is_some() {}
    }

    /// Takes note of where a listener read that the topic stands. Says whether everything later
    /// comes to it.
    fn begin(&self, topic: &Arc<str>, at: Position) -> bool {
        let mut audiences = self.lock();
        let Some(audience) = audiences.of.get_mut(topic) else {
            return false;
        };
        let complete = audience.order.begin(at, Clock.now());
        self.note_missing(&mut audiences, topic);
        drop(audiences);
        self.pass_on_early(topic);
        complete
    }

    /// Forgets a listener.
    fn leave(&self, topic: &Arc<str>, id: u64) {
        let mut audiences = self.lock();
        if let Some(audience) = audiences.of.get_mut(topic) {
            audience.listeners.remove(&id);
            if audience.listeners.is_empty() {
                audiences.of.remove(topic);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Has a topic looked after that misses an event.
    fn note_missing(&self, audiences: &mut Audiences, topic: &Arc<str>) {
        let audience = audiences.of.get(topic);
        let late_at = audience.and_then(|audience| audience.order.late_at());
        if late_at.is_some() && audiences.missing.insert(topic.clone()) {
            self.stirred.notify_one();
        }
    }

    /// Waits until somebody listens where nobody did, or another event is missing. For one waiter.
    async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Returns the topics whose missing events are late, and when the next one is late.
    fn late(&self, now: Instant) -> (Vec<Arc<str>>, Option<Instant>) {
        let mut audiences = self.lock();
        let Audiences { of, missing } = &mut *audiences;
        let (mut late, mut next) = (Vec::new(), None::<Instant>);
        missing.retain(|topic| {
            let Some(at) = of.get(topic).and_then(|audience| audience.order.late_at()) else {
                return false; // It came, or nobody listens any more.
            };
            if at <= now {
                late.push(topic.clone());
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
            true
        });
        (late, next)
    }

    /// Returns how far the listeners of a topic were told, if one knows where the topic stands.
    fn told(&self, topic: &Arc<str>) -> Option<Position> {
        self.lock().of.get(topic)?.order.told()
    }

    /// Returns topics that have listeners, by name, at most `limit`, from the one after `after`.
    fn begun(&self, after: Option<&Arc<str>>, limit: usize) -> Vec<Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let audiences = self.lock();
        let begun = audiences
            .of
            .range::<Arc<str>, _>((from, Bound::Unbounded))
            .filter(|(_, audience)| audience.order.told().is_some());
        begun.map(|(topic, _)| topic.clone()).take(limit).collect()
    }

    /// Takes note that a topic has an event at `place`.
    fn hear(&self, topic: &Arc<str>, place: Position) {
        let mut audiences = self.lock();
        if let Some(audience) = audiences.of.get_mut(topic) {
            audience.order.hear(place, Clock.now());
            self.note_missing(&mut audiences, topic);
        }
    }

    /// Tells events that were read, as far as they did not come meanwhile.
    fn tell_all(&self, events: &[Arc<TopicEvent>]) {
        let told = events.iter().filter(|event| self.pass_on(event)).count();
        if told > 0 {
            metrics::counter!("actor_topic_events_recalled_total").increment(told as u64);
        }
    }

    /// Takes note of all that was read of a topic after `since`. If something between is gone, its
    /// listeners are cut off: they find out when they come back with their positions.
    fn recalled(&self, topic: &Arc<str>, since: Position, history: &History) {
        if history.recovered {
            self.tell_all(&history.events);
        }
        let mut audiences = self.lock();
        let Some(audience) = audiences.of.get_mut(topic) else {
            return;
        };
        if history.recovered {
            audience.order.recalled(history.position, Clock.now());
        } else if audience.order.told() == Some(since) {
            audiences.of.remove(topic);
        } else {
            audience.order.postpone(Clock.now());
        }
    }

    /// Remembers, from now on, under which numbering `topic` is announced here.
    pub(crate) fn numbering(self: &Arc<Self>, topic: &Arc<str>) -> Numbering {
        let mut numberings = self.lock_numberings();
        numberings.entry(topic.clone()).or_default().0 += 1;
        drop(numberings);
        Numbering {
            topics: self.clone(),
            topic: topic.clone(),
        }
    }

    fn lock_numberings(&self) -> MutexGuard<'_, Numberings> {
        self.numberings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns each topic that has listeners, with their number.
    pub fn counts(&self) -> BTreeMap<Arc<str>, usize> {
        let audiences = self.lock();
        let counts = audiences.of.iter();
        counts
            .map(|(topic, audience)| (topic.clone(), audience.listeners.len()))
            .collect()
    }

    /// Returns the number of live subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Audiences> {
        self.audiences
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
