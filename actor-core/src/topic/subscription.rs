//! One listener's end of a topic. Not here: reading again what a listener missed that fell behind;
//! it comes back with its position.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::mpsc;

use super::{Position, TopicEvent, Topics};

/// A subscriber's end: receives events in order, without gap or duplicate, until it lags or is
/// dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: Arc<Topics>,
    topic: Arc<str>,
    id: u64,
    events: mpsc::Receiver<Arc<TopicEvent>>,
    /// Events up to here were handed out already.
    seen: Position,
    /// Whether something after `seen` will not come: nothing is handed out any more.
    lagged: bool,
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
    /// The live events, those of `backlog` left out. If there is more history than fits `backlog`,
    /// it has lagged from the start: come back with the last position of `backlog`.
    pub subscription: Subscription,
}

impl Subscription {
    /// Returns the end that `id` listens with.
    pub(super) fn new(
        topics: Arc<Topics>,
        topic: Arc<str>,
        id: u64,
        events: mpsc::Receiver<Arc<TopicEvent>>,
    ) -> Self {
        Self {
            topics,
            topic,
            id,
            events,
            seen: Position::default(),
            lagged: false,
        }
    }

    /// Begins to receive what is later than `at`, where the topic was read to stand; leaves out
    /// events up to `seen`, which are known already.
    pub(crate) fn begin(&mut self, at: Position, seen: Position) {
        let complete = self.topics.begin(&self.topic, at);
        self.seen = seen;
        // Between the two are events that neither were read nor will come.
        self.lagged = !complete || seen.epoch == at.epoch && seen.offset < at.offset;
    }

    /// Returns the next event; `None` once this listener lagged and was cut off. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<TopicEvent>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next event, as [`Subscription::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<TopicEvent>>> {
        while !self.lagged {
            match ready!(self.events.poll_recv(cx)) {
                Some(event) if self.seen.covers(event.position) => {}
                // Invariant: a listener gets every event after its position, or learns that it
                // lagged.
                Some(event) if self.seen.precedes(event.position) => {
                    self.seen = event.position;
                    return Poll::Ready(Some(event));
                }
                _ => self.lagged = true,
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topics.leave(&self.topic, self.id);
    }
}
