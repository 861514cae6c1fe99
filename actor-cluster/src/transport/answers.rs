//! What waits for a peer on a link that it dialled: the answers, and how much of the peer's window
//! their requests took up.
//!
//! Not here: sockets, and the work itself (`accepted`).

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::error::Refusal;
use tokio::sync::Notify;

use super::{
    LinkEnd,
    config::LinkConfig,
    envelope::Answer,
    frame::{FRAME_HEAD, FrameKind, FrameWriter, ITEM_HEAD, ItemKind},
    meter::Meter,
};

/// The answering half of an accepted link.
pub(super) struct Answers {
    /// The largest frame the peer reads.
    frame_bytes_max: usize,
    /// What may wait here.
    bytes_max: u64,
    meter: Arc<Meter>,
    state: Mutex<State>,
    /// Wakes the writer; it alone waits.
    pub(super) wake: Notify,
    /// The peer dialled anew.
    pub(super) replaced: Notify,
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

    pub(super) fn arrive(&self, cost: u64, window: u64, is_request: bool) -> Result<(), LinkEnd> {
        let mut state = self.lock();
        state.arrived += cost;
        state.open += usize::from(is_request);
        if state.arrived - state.consumed > window {
            return Err(LinkEnd::Garbage("it sent more than it was allowed".into()));
        }
        Ok(())
    }

    /// Queues an answer; one that may not wait or cannot be sent is replaced by a small one.
    pub(super) fn answer(&self, number: u64, cost: u64, answer: &Answer) {
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
    pub(super) fn consume(&self, cost: u64, window: u64) {
        let mut state = self.lock();
        state.consumed += cost;
        if state.consumed - state.told > window / 4 {
            self.wake.notify_one();
        }
    }

    /// Moves what waits into a frame; returns the number of envelopes, what was consumed, and
    /// whether the frame is worth writing without any.
    pub(super) fn form(
        &self,
        frame: &mut FrameWriter,
        batch_bytes: usize,
        window: u64,
    ) -> (usize, u64, bool) {
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
