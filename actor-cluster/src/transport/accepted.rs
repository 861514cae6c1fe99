//! One connection that a peer dialled: reads requests and notes, writes answers.
//!
//! A request holds its part of the peer's window until its answer leaves, so a peer cannot have
//! more under way here than it was allowed, however slow the work is. Answers need no window: who
//! asked takes them at once. Not here: who may connect (`acceptor`).

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use actor_core::{error::Refusal, store::BoxFuture};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split},
    sync::Notify,
};

use super::{
    Inbound, LinkEnd, PeerId,
    alarm::Alarm,
    config::LinkConfig,
    dialled::put,
    envelope::{Answer, Note, Request},
    frame::{FRAME_HEAD, FrameKind, FrameReader, FrameWriter, ITEM_HEAD, Item, ItemKind, cost},
    meter::Meter,
};

/// A connection that is up.
pub(super) struct Accepted<S> {
    pub(super) stream: S,
    pub(super) peer: PeerId,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) answers: Arc<Answers>,
    pub(super) meter: Arc<Meter>,
    pub(super) config: Arc<LinkConfig>,
}

/// The answering half of an accepted link.
pub(super) struct Answers {
    /// The largest frame the peer reads.
    frame_bytes_max: usize,
    /// What may wait here.
    bytes_max: u64,
    meter: Arc<Meter>,
    state: Mutex<State>,
    wake: Notify,
    replaced: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// Requests that were read and whose answers did not leave.
    open: usize,
    /// The cost of requests that were read, and of those whose answers left.
    arrived: u64,
    consumed: u64,
    /// What the peer was last told of `consumed`.
    told: u64,
    leaving: Leaving,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leaving {
    #[default]
    No,
    Wanted,
    Said,
}

struct Queued {
    number: u64,
    body: Vec<u8>,
    /// What the request took up of the window.
    cost: u64,
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

impl Answers {
    pub(super) fn new(config: &LinkConfig, frame_bytes_max: usize, meter: Arc<Meter>) -> Self {
        Self {
            frame_bytes_max,
            bytes_max: config.answer_bytes_max as u64,
            meter,
            state: Mutex::default(),
            wake: Notify::new(),
            replaced: Notify::new(),
        }
    }

    /// Asks the peer for no more requests.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        if state.leaving == Leaving::No {
            state.leaving = Leaving::Wanted;
            self.wake.notify_one();
        }
    }

    /// Ends the link: the peer dialled anew.
    pub(super) fn replace(&self) {
        self.replaced.notify_one();
    }

    /// Returns the requests without an answer, the bytes that wait, and those not consumed.
    pub(super) fn depth(&self) -> (usize, u64, u64) {
        let state = self.lock();
        let under_way = state.arrived - state.consumed;
        (state.open, state.queued_bytes, under_way)
    }

    /// Says whether the peer was asked for no more requests.
    pub(super) fn is_leaving(&self) -> bool {
        self.lock().leaving != Leaving::No
    }

    fn arrive(&self, cost: u64, window: u64, is_request: bool) -> Result<(), LinkEnd> {
        let mut state = self.lock();
        state.arrived += cost;
        state.open += usize::from(is_request);
        if state.arrived - state.consumed > window {
            return Err(LinkEnd::Garbage("it sent more than it was allowed".into()));
        }
        Ok(())
    }

    /// Queues an answer; one that may not wait or cannot be sent is replaced by a small one.
    fn answer(&self, number: u64, cost: u64, answer: &Answer) {
        let mut body = answer.encode();
        let mut state = self.lock();
        if FRAME_HEAD + ITEM_HEAD + body.len() > self.frame_bytes_max {
            let (size, max) = (body.len(), self.frame_bytes_max);
            let text = format!("an answer of {size} bytes; a frame holds {max}");
            body = Answer::Refused(Refusal::TooLarge(text.into())).encode();
        } else if state.queued_bytes + body.len() as u64 > self.bytes_max {
            let text = "the peer does not take its answers";
            body = Answer::Refused(Refusal::UnknownOutcome(text.into())).encode();
        }
        state.queued_bytes += body.len() as u64;
        self.meter.queued(body.len() as u64);
        state.queue.push_back(Queued { number, body, cost });
        drop(state);
        self.wake.notify_one();
    }

    /// Notes that a note was dealt with.
    fn consume(&self, cost: u64, window: u64) {
        let mut state = self.lock();
        state.consumed += cost;
        if state.consumed - state.told > window / 4 {
            self.wake.notify_one();
        }
    }

    /// Moves what waits into a frame; returns the number of envelopes, what was consumed, and
    /// whether the frame is worth writing without any.
    fn form(&self, frame: &mut FrameWriter, batch_bytes: usize, window: u64) -> (usize, u64, bool) {
        let mut state = self.lock();
        if state.leaving == Leaving::Wanted {
            state.leaving = Leaving::Said;
            frame.begin(FrameKind::Leaving);
            state.told = state.consumed;
            return (0, state.consumed, true);
        }
        frame.begin(FrameKind::Batch);
        let mut count = 0;
        while let Some(first) = state.queue.front() {
            let size = frame.size() + ITEM_HEAD + first.body.len();
            if count > 0 && size > batch_bytes.min(self.frame_bytes_max) {
                break;
            }
            let Some(item) = state.queue.pop_front() else {
                break;
            };
            state.queued_bytes -= item.body.len() as u64;
            self.meter.unqueued(item.body.len() as u64);
            state.consumed += item.cost;
            state.open -= 1;
            frame.push(ItemKind::Answer, item.number, Duration::ZERO, &item.body);
            count += 1;
        }
        let worth = count > 0 || state.consumed - state.told > window / 4;
        if worth {
            state.told = state.consumed;
        }
        (count, state.consumed, worth)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let waiting = self.lock().queued_bytes;
        self.meter.unqueued(waiting);
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, waiting, under_way) = self.depth();
        write!(
            f,
            "Answers({open} open, {waiting} bytes wait, {under_way} not consumed)"
        )
    }
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
            for item in frame.items {
                if let Err(why) = self.begin(item).await {
                    return why;
                }
            }
        }
    }

    /// Begins what an envelope asks for. One that cannot be read costs only itself.
    async fn begin(&mut self, item: Item) -> Result<(), LinkEnd> {
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
            ItemKind::Request => self.request(&item, cost).await,
        }
        Ok(())
    }

    async fn request(&mut self, item: &Item, cost: u64) {
        let number = item.number;
        if item.within.is_zero() {
            let late = Answer::Refused(Refusal::Timeout { started: false });
            return self.answers.answer(number, cost, &late);
        }
        let request = match Request::decode(&item.body, item.within) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::Decode(error.to_string().into());
                return self.answers.answer(number, cost, &Answer::Refused(refusal));
            }
        };
        let begin = || self.inbound.request(&self.peer, request, item.within);
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
