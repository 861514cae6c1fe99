//! One connection that a peer dialled: reads requests and notes, writes answers.
//!
//! A request holds its part of the peer's window until its answer leaves, so a peer cannot have
//! more under way here than it was allowed, however slow the work is. Answers need no window: who
//! asked takes them at once. Not here: who may connect (`acceptor`), and what waits (`answers`).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actor_core::{clock::Clock, error::Refusal, store::BoxFuture};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split};

use super::{
    Inbound, LinkEnd, PeerId,
    alarm::Alarm,
    answers::Answers,
    config::LinkConfig,
    dialled::put,
    envelope::{Answer, Note, Request},
    frame::{FrameKind, FrameReader, FrameWriter, Item, ItemKind, cost},
    meter::Meter,
};

/// Requests that are begun before the answers of earlier ones get their turn: the peer goes on with
/// those while this node goes on with its frame.
const AT_ONCE: usize = 32;

/// A connection that is up.
pub(super) struct Accepted<S> {
    pub(super) stream: S,
    pub(super) peer: PeerId,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) answers: Arc<Answers>,
    pub(super) meter: Arc<Meter>,
    pub(super) config: Arc<LinkConfig>,
}

/// A request that is being worked on; one that panics is answered like any other.
struct Work {
    number: u64,
    cost: u64,
    answer: BoxFuture<'static, Answer>,
}

impl Future for Work {
    /// Its number, its cost, its answer.
    type Output = (u64, u64, Answer);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.answer.as_mut();
        // Nobody looks at the future after a panic.
        let polled = catch_unwind(AssertUnwindSafe(|| answer.poll(cx)));
        let answer = match polled {
            Ok(answer) => std::task::ready!(answer),
            Err(_) => Answer::Refused(crashed()),
        };
        Poll::Ready((self.number, self.cost, answer))
    }
}

fn crashed() -> Refusal {
    Refusal::Crashed("the request panicked".into())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Accepted<S> {
    /// Serves the peer until the link ends. Work that was begun then goes on without an answer only
    /// as far as it does not depend on this future.
    pub(super) async fn run(self) -> LinkEnd {
        let Self {
            stream,
            peer,
            inbound,
            answers,
            meter,
            config,
        } = self;
        let (read_half, mut write_half) = split(stream);
        let reading = Reading {
            reader: FrameReader::new(read_half, config.frame_bytes_max, config.silence),
            peer,
            inbound,
            answers: &answers,
            meter: &meter,
            window: config.window_bytes as u64,
            work: FuturesUnordered::new(),
        };
        // Whichever ends first ends the link, so nothing that the others were doing matters.
        tokio::select! {
            biased;
            why = reading.run() => why,
            why = write(&mut write_half, &answers, &meter, &config) => why,
            () = answers.replaced.notified() => LinkEnd::Replaced,
        }
    }
}

struct Reading<'a, R> {
    reader: FrameReader<R>,
    peer: PeerId,
    inbound: Arc<dyn Inbound>,
    answers: &'a Answers,
    meter: &'a Meter,
    window: u64,
    work: FuturesUnordered<Work>,
}

impl<R: AsyncRead + Unpin> Reading<'_, R> {
    async fn run(mut self) -> LinkEnd {
        loop {
            let frame = tokio::select! {
                biased;
                // Cancel safe: what is done stays in the set until it is taken.
                Some((number, cost, answer)) = self.work.next(), if !self.work.is_empty() => {
                    self.answers.answer(number, cost, &answer);
                    continue;
                }
                // Cancel safe by its word.
                frame = self.reader.next() => frame,
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(why) => return why,
            };
            self.meter.read(frame.bytes, frame.items.len());
            if frame.consumed != 0 {
                return LinkEnd::Garbage("it consumed what it was not sent".into());
            }
            match frame.kind {
                FrameKind::Batch => {}
                FrameKind::Close => return LinkEnd::Orderly,
                FrameKind::Leaving => {
                    return LinkEnd::Garbage("it leaves a link that it dialled".into());
                }
            }
            let (read_at, mut waited) = (Clock.now(), Duration::ZERO);
            let mut items = frame.items.into_iter();
            while items.len() > 0 {
                for item in items.by_ref().take(AT_ONCE) {
                    if let Err(why) = self.begin(item, waited).await {
                        return why;
                    }
                }
                if items.len() > 0 {
                    self.rest().await;
                    waited = Clock.now().saturating_duration_since(read_at);
                }
            }
        }
    }

    /// Lets what was begun go on, and what is done leave, in the middle of a large frame.
    async fn rest(&mut self) {
        tokio::task::yield_now().await;
        while let Some(Some((number, cost, answer))) = self.work.next().now_or_never() {
            self.answers.answer(number, cost, &answer);
        }
    }

    /// Begins what an envelope asks for, which `waited` in its frame. One that cannot be read costs
    /// only itself.
    async fn begin(&mut self, item: Item, waited: Duration) -> Result<(), LinkEnd> {
        let cost = cost(item.body.len());
        let is_request = item.kind == ItemKind::Request;
        self.answers.arrive(cost, self.window, is_request)?;
        match item.kind {
            ItemKind::Answer => {
                return Err(LinkEnd::Garbage("it answers what it was not asked".into()));
            }
            ItemKind::Note => {
                self.note(&item);
                self.answers.consume(cost, self.window);
            }
            ItemKind::Request => self.request(&item, waited, cost).await,
        }
        Ok(())
    }

    async fn request(&mut self, item: &Item, waited: Duration, cost: u64) {
        let number = item.number;
        let within = item.within.saturating_sub(waited);
        if within.is_zero() {
            let late = Answer::Refused(Refusal::Timeout { started: false });
            return self.answers.answer(number, cost, &late);
        }
        let request = match Request::decode(&item.body, within) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::Decode(error.to_string().into());
                return self.answers.answer(number, cost, &Answer::Refused(refusal));
            }
        };
        let begin = || self.inbound.request(&self.peer, request, within);
        let Ok(answer) = catch_unwind(AssertUnwindSafe(begin)) else {
            return self
                .answers
                .answer(number, cost, &Answer::Refused(crashed()));
        };
        let mut work = Work {
            number,
            cost,
            answer,
        };
        // Invariant: requests begin in the order sent, so each is polled once before the next.
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut work).poll(cx)));
        match first.await {
            Poll::Ready((number, cost, answer)) => self.answers.answer(number, cost, &answer),
            Poll::Pending => self.work.push(work),
        }
    }

    fn note(&self, item: &Item) {
        let note = match Note::decode(&item.body) {
            Ok(note) => note,
            Err(error) => {
                tracing::warn!(peer = %self.peer, %error, "a note cannot be read");
                return;
            }
        };
        let told = AssertUnwindSafe(|| self.inbound.note(&self.peer, note));
        if catch_unwind(told).is_err() {
            tracing::error!(peer = %self.peer, "taking a note panicked");
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    stream: &mut W,
    answers: &Answers,
    meter: &Meter,
    config: &LinkConfig,
) -> LinkEnd {
    let mut frame = FrameWriter::default();
    let mut heartbeat = Alarm::new(config.heartbeat);
    let window = config.window_bytes as u64;
    loop {
        let (count, consumed, worth) = answers.form(&mut frame, config.batch_bytes, window);
        if !worth {
            tokio::select! {
                biased;
                // Cancel safe: a wake-up that comes meanwhile is kept.
                () = answers.wake.notified() => {
                    // Other answers that are about to come get into the same frame.
                    tokio::task::yield_now().await;
                    continue;
                }
                // Cancel safe: it only watches the clock. The empty frame is a sign of life.
                () = heartbeat.fired() => {}
            }
        }
        let bytes = frame.finish(consumed);
        if let Err(why) = put(stream, bytes, config.stall).await {
            // What was not written in order is gone with the connection.
            let _ = stream.shutdown().await;
            return why;
        }
        meter.wrote(bytes.len(), count);
        heartbeat.touch();
        frame.trim(2 * config.batch_bytes);
    }
}

#[cfg(test)]
mod tests;
