//! The writer of one socket: answers first, then events, all within a deadline.
//!
//! Invariant: once the close is decided nothing else is sent, so that a client that resumes from
//! the last event it saw misses nothing.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actor_core::{clock::Clock, clock::Instant, topic::TopicEvent};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    FutureExt, SinkExt, StreamExt,
    stream::{BoxStream, SelectAll, SplitSink},
};
use tokio::{
    select,
    sync::{mpsc, oneshot},
};

use super::answer::Wire;

/// Messages handed to the socket before it is flushed.
const FLUSH_EVERY: usize = 64;

/// How long the close itself may take to be written.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A topic's events for a socket; the last item names a topic that was lost.
pub(crate) type Events = BoxStream<'static, Result<Arc<TopicEvent>, Arc<str>>>;

/// What the writer is told.
pub(crate) enum Outbound {
    /// Send this.
    Frame(Message),
    /// Send the answer, then these events.
    Subscribed {
        frame: Option<Message>,
        events: Events,
    },
    /// Close, after what was queued before.
    Close(Close),
}

/// Why a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The client said good-bye or is gone.
    Gone,
    /// The node drains.
    Restart,
    /// The client did not keep up.
    Slow,
    /// The client sent a message over the limit.
    TooLarge,
    /// The client was silent for too long.
    Silent,
    /// The session failed: a mistake of ours.
    Failed,
}

impl Close {
    /// Returns the close code and reason; `None` if nobody is there to read it.
    fn frame(self, reconnect: Duration) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::Restart => (
                1012,
                format!(r#"{{"reconnect_ms":{}}}"#, reconnect.as_millis()),
            ),
            Self::Slow => (4008, "too slow: resume by position".to_owned()),
            Self::TooLarge => (1009, "the message is too large".to_owned()),
            Self::Silent => (1001, "silent for too long".to_owned()),
            Self::Failed => (1011, "the session failed".to_owned()),
        };
        Some(CloseFrame {
            code,
            reason: reason.into(),
        })
    }
}

/// What the writer works with.
pub(super) struct Writer {
    pub(super) sink: SplitSink<WebSocket, Message>,
    pub(super) queue: mpsc::Receiver<Outbound>,
    pub(super) wire: Wire,
    pub(super) write_timeout: Duration,
    pub(super) ping_every: Duration,
    pub(super) reconnect: Duration,
}

/// What to do next.
enum Next {
    Told(Outbound),
    Event(Result<Arc<TopicEvent>, Arc<str>>),
    Ping,
    Close(Close),
}

impl Writer {
    /// Writes until the close, which it returns. `close` overtakes the queue.
    pub(super) async fn run(mut self, mut close: oneshot::Receiver<Close>) -> Close {
        let mut feeds: SelectAll<Events> = SelectAll::new();
        let mut ping_at = Clock.now() + self.ping_every;
        let reason = loop {
            // Every arm is cancel safe: a queue, a stream that takes nothing early, a clock.
            let next = select! {
                biased;
                reason = &mut close => Next::Close(reason.unwrap_or(Close::Gone)),
                told = self.queue.recv() => told.map_or(Next::Close(Close::Failed), Next::Told),
                Some(event) = feeds.next(), if !feeds.is_empty() => Next::Event(event),
                () = Clock.sleep_until(ping_at) => Next::Ping,
            };
            if matches!(next, Next::Ping) {
                ping_at = Clock.now() + self.ping_every;
            }
            if let Err(reason) = self.write_burst(next, &mut feeds).await {
                break reason;
            }
        };
        drop(feeds);
        self.finish(reason).await;
        reason
    }

    /// Writes `next` and what is ready after it, then flushes.
    async fn write_burst(
        &mut self,
        next: Next,
        feeds: &mut SelectAll<Events>,
    ) -> Result<(), Close> {
        let deadline = Clock.now() + self.write_timeout;
        let mut next = Some(next);
        for _ in 0..FLUSH_EVERY {
            let Some(now) = next.take() else { break };
            for message in self.messages(now, feeds)? {
                by(deadline, self.sink.feed(message)).await?;
            }
            next = match self.queue.try_recv() {
                Ok(told) => Some(Next::Told(told)),
                Err(_) => feeds.next().now_or_never().flatten().map(Next::Event),
            };
        }
        // The bound of a burst may leave one item in hand.
        if let Some(last) = next {
            for message in self.messages(last, feeds)? {
                by(deadline, self.sink.feed(message)).await?;
            }
        }
        by(deadline, self.sink.flush()).await
    }

    /// Returns what goes to the socket; an error ends it.
    fn messages(
        &self,
        next: Next,
        feeds: &mut SelectAll<Events>,
    ) -> Result<VecDeque<Message>, Close> {
        Ok(match next {
            Next::Told(Outbound::Frame(message)) => VecDeque::from([message]),
            Next::Told(Outbound::Subscribed { frame, events }) => {
                feeds.push(events);
                frame.into_iter().collect()
            }
            Next::Told(Outbound::Close(reason)) | Next::Close(reason) => return Err(reason),
            Next::Event(Ok(event)) => VecDeque::from([self.wire.event(&event)]),
            Next::Event(Err(_lost)) => return Err(Close::Slow),
            Next::Ping => VecDeque::from([Message::Ping(axum::body::Bytes::new())]),
        })
    }

    /// Says good-bye, as far as the client still listens.
    async fn finish(&mut self, reason: Close) {
        if reason == Close::Slow {
            metrics::counter!("actor_slow_clients_total").increment(1);
        }
        let deadline = Clock.now() + CLOSE_WITHIN;
        let sent = match reason.frame(self.reconnect) {
            Some(frame) => by(deadline, self.sink.send(Message::Close(Some(frame)))).await,
            // The library answers the client's close by itself; it only needs flushing.
            None => by(deadline, self.sink.flush()).await,
        };
        if sent.is_err() {
            tracing::debug!(?reason, "a socket was gone before its close");
        }
    }
}

/// Ends a write at its deadline. After one that is cut off only the close is written.
async fn by(
    deadline: Instant,
    write: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Close> {
    select! {
        biased;
        written = write => written.map_err(|_| Close::Gone),
        () = Clock.sleep_until(deadline) => Err(Close::Slow),
    }
}
