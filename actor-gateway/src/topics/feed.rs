//! A topic's events for one listener outside, in order, without gap or duplicate.
//!
//! A subscription is in order. The queue between a topic and a listener is bounded and cuts the
//! listener off when it is full. A feed then goes on from the topic's history, which makes the
//! history the listener's queue: a listener is lost only when it is too slow even for that.

use std::{collections::VecDeque, sync::Arc};

use actor_core::{
    Client, Refusal,
    topic::{Position, Subscribed, Subscription, TopicEvent},
};
use futures_util::{Stream, stream};

/// One listener's events.
pub(crate) struct Feed {
    client: Client,
    topic: Arc<str>,
    /// The last event that was handed out, or where the feed began.
    seen: Position,
    backlog: VecDeque<Arc<TopicEvent>>,
    subscription: Subscription,
}

/// A feed and where it begins.
pub(crate) struct Opened {
    pub(crate) feed: Feed,
    /// Where the topic stood.
    pub(crate) position: Position,
    /// The position before the first event the feed hands out.
    pub(crate) start: Position,
    /// Whether nothing is missing since the position asked for.
    pub(crate) recovered: bool,
}

impl Feed {
    /// Begins at `since`, or now.
    pub(crate) async fn open(
        client: Client,
        topic: &str,
        since: Option<Position>,
    ) -> Result<Opened, Refusal> {
        let subscribed = client.subscribe(topic, since).await?;
        let Subscribed {
            position,
            recovered,
            backlog,
            subscription,
        } = subscribed;
        let start = match (backlog.first(), since) {
            (Some(first), _) => Position {
                offset: first.position.offset.saturating_sub(1),
                ..first.position
            },
            (None, _) => position,
        };
        let feed = Self {
            client,
            topic: topic.into(),
            seen: start,
            backlog: backlog.into(),
            subscription,
        };
        Ok(Opened {
            feed,
            position,
            start,
            recovered,
        })
    }

    /// Returns the next event; `None` once events were lost or the store does not answer.
    ///
    /// # Cancel safety
    /// Nothing is taken before it is returned.
    pub(crate) async fn next(&mut self) -> Option<Arc<TopicEvent>> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.seen = event.position;
                return Some(event);
            }
            if let Some(event) = self.subscription.next().await {
                self.seen = event.position;
                return Some(event);
            }
            let again = self.client.subscribe(&self.topic, Some(self.seen)).await;
            let again = again.ok().filter(|subscribed| subscribed.recovered)?;
            self.backlog = again.backlog.into();
            self.subscription = again.subscription;
        }
    }

    /// Returns the events as a stream; its last item says that the listener lost track.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Arc<TopicEvent>, Arc<str>>> {
        stream::unfold(Some(self), |feed| async {
            let mut feed = feed?;
            match feed.next().await {
                Some(event) => Some((Ok(event), Some(feed))),
                None => Some((Err(feed.topic), None)),
            }
        })
    }
}
