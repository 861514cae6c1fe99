//! Topics as one node sees them: who listens here, and what to tell them.
//!
//! Events are rows (`store/topics.rs`); after their commit they are announced here. A subscriber
//! has a bounded queue; one that falls behind is cut off and may come back with its position.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

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

/// A subscriber's end: receives events in order until it lags or is dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: Arc<Topics>,
    topic: Arc<str>,
    id: u64,
    events: mpsc::Receiver<Arc<TopicEvent>>,
    /// Events up to here were handed out already.
    seen: Position,
}

/// A subscription with what happened since the position it asked for.
#[derive(Debug)]
pub struct Subscribed {
    /// Where the topic stood when the subscription began: everything later arrives live.
    pub position: Position,
    /// Whether `backlog` holds every event since the position asked for. Without one asked for:
    /// true.
    pub recovered: bool,
    /// The events since then, oldest first.
    pub backlog: Vec<Arc<TopicEvent>>,
    /// The live events, those of `backlog` left out.
    pub subscription: Subscription,
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

/// The listeners of each topic, by their number.
type Listeners = BTreeMap<Arc<str>, BTreeMap<u64, mpsc::Sender<Arc<TopicEvent>>>>;

/// The listeners of one node.
#[derive(Debug, Default)]
pub struct Topics {
    listeners: Mutex<Listeners>,
    numberings: Mutex<Numberings>,
    next_id: AtomicU64,
    count: AtomicUsize,
}

impl Topics {
    /// Starts listening to `topic` from now on.
    pub fn listen(self: &Arc<Self>, topic: &str) -> Subscription {
        let (sender, events) = mpsc::channel(SUBSCRIBER_QUEUE);
        let (id, topic) = (
            self.next_id.fetch_add(1, Ordering::Relaxed),
            Arc::<str>::from(topic),
        );
        self.lock()
            .entry(topic.clone())
            .or_default()
            .insert(id, sender);
        self.count.fetch_add(1, Ordering::Relaxed);
        Subscription {
            topics: self.clone(),
            topic,
            id,
            events,
            seen: Position::default(),
        }
    }

    /// Tells every listener of the event's topic. Never waits: a full queue cuts its listener off.
    pub fn announce(&self, event: &Arc<TopicEvent>) {
        if let Some((_, epoch)) = self.lock_numberings().get_mut(&event.topic) {
            *epoch = event.position.epoch;
        }
        let mut listeners = self.lock();
        let Some(of_topic) = listeners.get_mut(&event.topic) else {
            return;
        };
        of_topic.retain(|_, sender| {
            let told = sender.try_send(event.clone()).is_ok();
            if !told {
                metrics::counter!("actor_slow_clients_total").increment(1);
            }
            told
        });
        metrics::counter!("actor_topic_events_total", "direction" => "out")
            .increment(of_topic.len() as u64);
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
        self.lock()
            .iter()
            .map(|(topic, of_topic)| (topic.clone(), of_topic.len()))
            .collect()
    }

    /// Returns the number of live subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Returns the next event; `None` once this listener lagged and was cut off. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<TopicEvent>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Leaves out events up to `position`.
    pub(crate) fn skip_to(&mut self, position: Position) {
        self.seen = position;
    }

    /// Polls for the next event, as [`Subscription::next`].
    pub fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Arc<TopicEvent>>> {
        loop {
            match std::task::ready!(self.events.poll_recv(cx)) {
                Some(event)
                    if event.position.epoch == self.seen.epoch
                        && event.position.offset <= self.seen.offset => {}
                other => return std::task::Poll::Ready(other),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.topics.lock();
        if let Some(of_topic) = listeners.get_mut(&self.topic) {
            of_topic.remove(&self.id);
            if of_topic.is_empty() {
                listeners.remove(&self.topic);
            }
        }
        self.topics.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: String) -> Arc<TopicEvent> {
        Arc::new(TopicEvent {
            topic: topic.into(),
            position: Position {
                epoch: 7,
                offset: 1,
            },
            name: "said".into(),
            data: Arc::default(),
        })
    }

    #[test]
    fn topics_that_nobody_asks_for_leave_nothing_behind() {
        let topics = Arc::new(Topics::default());
        let name = Arc::<str>::from("t7");
        let (asked, twice) = (topics.numbering(&name), topics.numbering(&name));

        for number in 0..100 {
            topics.announce(&event(format!("t{number}")));
        }

        assert_eq!(topics.lock_numberings().len(), 1);
        drop(asked);
        assert_eq!(twice.epoch(), 7);
        drop(twice);
        assert!(topics.lock_numberings().is_empty());
    }
}
