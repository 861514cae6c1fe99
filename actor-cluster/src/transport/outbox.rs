//! What waits for a peer on a link this node dialled: the queue and the peer's window.
//!
//! Not here: sockets (`dialled`), and how requests without an answer are kept (`requests`). A
//! frame is formed from whatever waits when the previous one is written, so batches grow with the
//! load and a lonely request does not wait for others.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::clock::{Clock, Instant};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    Unanswered,
    frame::{FRAME_HEAD, FrameKind, FrameWriter, ITEM_HEAD, ItemKind, cost},
    meter::Meter,
    requests::{End, Requests},
};

/// When a caller that was refused for a full queue may try again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How much earlier than its caller the peer gives up, at most: only the peer knows whether the
/// work had begun, and its answer needs time for the way back.
const WAY_BACK: Duration = Duration::from_millis(50);

/// What bounds a link this node dialled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The largest frame the peer reads.
    pub(super) frame_bytes_max: usize,
    /// At which size a frame takes no further envelope.
    pub(super) batch_bytes: usize,
    /// What the peer lets this node have under way.
    pub(super) window_bytes: u64,
    /// What may wait here.
    pub(super) queue_bytes_max: u64,
}

/// The sending half of a dialled link, shared by callers and the link's task.
pub(super) struct Outbox {
    bounds: Bounds,
    meter: Arc<Meter>,
    state: Mutex<State>,
    /// Wakes the writer; it alone waits.
    pub(super) wake: Notify,
    /// A request came that must be looked for before the others.
    sooner: Notify,
}

struct State {
    phase: Phase,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    open: Requests,
    next: u64,
    /// The cost of everything that left, and of what the peer has dealt with.
    sent: u64,
    consumed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// No new requests; those that wait still leave. This node ends the link.
    Closing,
    /// No new requests, and none leave. The peer ends the link.
    Leaving,
    Ended,
}

struct Queued {
    kind: ItemKind,
    number: u64,
    deadline: Option<Instant>,
    body: Vec<u8>,
}

/// A request that was queued. Dropping it abandons the answer, not the request.
pub(super) struct Ticket {
    outbox: Arc<Outbox>,
    number: u64,
    answer: oneshot::Receiver<End>,
}

impl Outbox {
    pub(super) fn new(bounds: Bounds, meter: Arc<Meter>) -> Self {
        Self {
            bounds,
            meter,
            state: Mutex::new(State {
                phase: Phase::Open,
                queue: VecDeque::new(),
                queued_bytes: 0,
                open: Requests::new(Clock.now()),
                next: 1,
                sent: 0,
                consumed: 0,
            }),
            wake: Notify::new(),
            sooner: Notify::new(),
        }
    }

    /// Queues a request.
    pub(super) fn ask(
        self: &Arc<Self>,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<Ticket, Unanswered> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next;
        self.queue(&mut state, ItemKind::Request, body, number, Some(deadline))?;
        state.next += 1;
        let sooner = state.open.add(number, deadline, sender);
        drop(state);
        if sooner {
            self.sooner.notify_one();
        }
        self.wake.notify_one();
        Ok(Ticket {
            outbox: self.clone(),
            number,
            answer,
        })
    }

    /// Ends requests when their time is over, for as long as it is polled.
    ///
    /// One timer for a link and not one for each request: most requests end long before their time,
    /// so a look at all that are open is due about once in the time that requests have.
    pub(super) async fn watch(&self) {
        loop {
            let look = self.lock().open.next_look();
            let due = async {
                match look {
                    Some(at) => Clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Both arms only wait.
            tokio::select! {
                biased;
                () = self.sooner.notified() => {}
                () = due => self.expire(Clock.now()),
            }
        }
    }

    fn expire(&self, now: Instant) {
        let mut state = self.lock();
        let late = state.open.expire(now);
        self.wake_the_last(&state);
        drop(state);
        // Without the lock: whoever is woken may want it for the next request.
        for (answer, end) in late {
            let _ = answer.send(Err(end)); // Whoever waited may have left.
        }
    }

    /// Lets the writer end a link that nothing is left for.
    fn wake_the_last(&self, state: &State) {
        if state.phase != Phase::Open && state.open.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Queues a note.
    pub(super) fn tell(&self, body: Vec<u8>) -> Result<(), Unanswered> {
        self.queue(&mut self.lock(), ItemKind::Note, body, 0, None)?;
        self.wake.notify_one();
        Ok(())
    }

    fn queue(
        &self,
        state: &mut State,
        kind: ItemKind,
        body: Vec<u8>,
        number: u64,
        deadline: Option<Instant>,
    ) -> Result<(), Unanswered> {
        match state.phase {
            Phase::Open => {}
            Phase::Leaving => return Err(not_linked("the peer is leaving")),
            Phase::Closing | Phase::Ended => return Err(not_linked("the link is ending")),
        }
        let frame = FRAME_HEAD + ITEM_HEAD + body.len();
        let cost = cost(body.len());
        if frame > self.bounds.frame_bytes_max || cost > self.bounds.window_bytes {
            let (size, max) = (body.len(), self.bounds.frame_bytes_max);
            let text = format!("an envelope of {size} bytes; a frame holds {max}");
            return Err(Unanswered::TooLarge(text.into()));
        }
        if state.queued_bytes + cost > self.bounds.queue_bytes_max {
            return Err(Unanswered::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        state.queued_bytes += cost;
        self.meter.queued(cost);
        state.queue.push_back(Queued {
            kind,
            number,
            deadline,
            body,
        });
        Ok(())
    }

    /// Moves what may leave into a frame; returns how many envelopes that are.
    pub(super) fn form(&self, frame: &mut FrameWriter) -> usize {
        frame.begin(FrameKind::Batch);
        let now = Clock.now();
        let leaving = self.take(frame.size(), now);
        for item in &leaving {
            let left = item.deadline.map(|deadline| deadline - now);
            let left = left.unwrap_or(Duration::ZERO);
            let within = left.saturating_sub(WAY_BACK.min(left / 4));
            frame.push(item.kind, item.number, within, &item.body);
        }
        leaving.len()
    }

    /// Takes off the queue what fits behind the first `size` bytes of a frame. Callers wait for the
    /// lock, so bytes are copied without it.
    fn take(&self, mut size: usize, now: Instant) -> Vec<Queued> {
        let mut leaving = Vec::new();
        let mut state = self.lock();
        while let Some(first) = state.queue.front() {
            let cost = cost(first.body.len());
            size += ITEM_HEAD + first.body.len();
            let most = self.bounds.batch_bytes.min(self.bounds.frame_bytes_max);
            let full = !leaving.is_empty() && size > most;
            let late = first.deadline.is_some_and(|deadline| deadline <= now);
            // Invariant: what is under way never exceeds what the peer allowed.
            let waits = state.sent - state.consumed + cost > self.bounds.window_bytes;
            if !late && (full || waits) {
                break;
            }
            let Some(item) = state.queue.pop_front() else {
                break;
            };
            state.queued_bytes -= cost;
            self.meter.unqueued(cost);
            if late {
                size -= ITEM_HEAD + item.body.len();
                state.finish(item.number, Unanswered::Unsent);
                continue;
            }
            state.open.left(item.number);
            state.sent += cost;
            leaving.push(item);
        }
        leaving
    }

    /// Notes what the peer has dealt with.
    pub(super) fn settle(&self, consumed: u64) -> Result<(), &'static str> {
        let mut state = self.lock();
        if consumed < state.consumed || consumed > state.sent {
            return Err("it consumed what it was not sent");
        }
        let more = consumed > state.consumed;
        state.consumed = consumed;
        if more && !state.queue.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Hands the answers of a frame to whoever waits for them; nobody may.
    pub(super) fn answered(&self, answers: impl ExactSizeIterator<Item = (u64, Bytes)>) {
        let mut ready = Vec::with_capacity(answers.len());
        let mut state = self.lock();
        for (number, body) in answers {
            if let Some(answer) = state.open.remove(number) {
                ready.push((answer, body));
            }
        }
        self.wake_the_last(&state);
        drop(state);
        // Without the lock, as in `expire`.
        for (answer, body) in ready {
            let _ = answer.send(Ok(body)); // Whoever waited may have left.
        }
    }

    /// The peer takes no more requests: what waits does not leave.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Ended {
            return;
        }
        state.phase = Phase::Leaving;
        self.refuse_queue(&mut state, "the peer is leaving");
        self.wake.notify_one();
    }

    /// This node ends the link once everything is answered.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.wake.notify_one();
        }
    }

    /// The link ended: what waited was not sent, and what was sent has an unknown end.
    pub(super) fn end(&self, why: &dyn fmt::Display) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        let why = why.to_string();
        self.refuse_queue(&mut state, &why);
        for answer in state.open.drain() {
            let lost = Unanswered::Lost(why.as_str().into());
            // Whoever waited may have left.
            let _ = answer.send(Err(lost));
        }
    }

    /// Says what the link is about to do, and whether nothing is left that it must wait for.
    pub(super) fn phase(&self) -> (Phase, bool) {
        let state = self.lock();
        (state.phase, state.queue.is_empty() && state.open.is_empty())
    }

    /// Returns the requests without an answer, the bytes that wait, and those under way.
    pub(super) fn depth(&self) -> (usize, u64, u64) {
        let state = self.lock();
        let under_way = state.sent - state.consumed;
        (state.open.len(), state.queued_bytes, under_way)
    }

    fn refuse_queue(&self, state: &mut State, why: &str) {
        self.meter.unqueued(state.queued_bytes);
        state.queued_bytes = 0;
        for item in std::mem::take(&mut state.queue) {
            state.finish(item.number, not_linked(why));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends a request that did not leave.
    fn finish(&mut self, number: u64, why: Unanswered) {
        if let Some(answer) = self.open.remove(number) {
            // Whoever waited may have left.
            let _ = answer.send(Err(why));
        }
    }
}

impl Ticket {
    /// Waits for the answer's bytes. It is the link's task that ends a request: at its deadline
    /// ([`Outbox::watch`]), and with the link.
    pub(super) async fn answer(mut self) -> Result<Bytes, Unanswered> {
        let answer = (&mut self.answer).await;
        answer.unwrap_or_else(|_| Err(Unanswered::Lost("the link was dropped".into())))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.answer.is_terminated() {
            return; // Whoever answered took it out.
        }
        let mut state = self.outbox.lock();
        state.open.remove(self.number);
        self.outbox.wake_the_last(&state);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, waiting, under_way) = self.depth();
        write!(
            f,
            "Outbox({open} open, {waiting} bytes wait, {under_way} under way)"
        )
    }
}

fn not_linked(why: &str) -> Unanswered {
    Unanswered::NotLinked(why.into())
}

#[cfg(test)]
mod tests;
