//! The unanswered calls of one session: bounded, each cancellable, in order for each target.
//!
//! A call is polled once where it is begun, so that calls to one target are queued there in the
//! order in which the client sent them; after that each runs as its own task.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_core::{Refusal, codec::Codec};
use futures_util::{FutureExt, future::BoxFuture};
use ractor::ActorRef;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Notice, Place,
    answer::Wire,
    outbound::Outbound,
    requests::Id,
    work::{Lane, Outcome, Work},
};
use crate::rejection::Rejection;

/// What a client is told to wait when it has too many unanswered calls.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The number of a call within its session.
pub(crate) type Serial = u64;

/// A call that answers by itself; returns the subscription that failed with it.
type Answering = BoxFuture<'static, Option<Place>>;

/// The calls of one session.
pub(super) struct Calls {
    most: usize,
    session: ActorRef<Notice>,
    wire: Wire,
    outbound: mpsc::Sender<Outbound>,
    next: Serial,
    live: BTreeMap<Serial, Live>,
    by_id: BTreeMap<Id, Serial>,
    lanes: BTreeMap<Lane, Waiting>,
    /// Ends with the session; its calls' answers are abandoned, their work is not.
    tasks: JoinSet<()>,
}

struct Live {
    id: Option<Id>,
    lane: Lane,
    exclusive: bool,
    place: Option<Place>,
    /// Set by whoever answers first: the call itself or its cancellation.
    answered: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

#[derive(Default)]
struct Waiting {
    /// How many of the lane's calls run.
    running: usize,
    /// Whether one of them keeps the rest waiting.
    blocked: bool,
    queue: VecDeque<(Serial, Answering)>,
}

impl Calls {
    pub(super) fn new(
        most: usize,
        session: ActorRef<Notice>,
        wire: Wire,
        outbound: mpsc::Sender<Outbound>,
    ) -> Self {
        Self {
            most,
            session,
            wire,
            outbound,
            next: 0,
            live: BTreeMap::new(),
            by_id: BTreeMap::new(),
            lanes: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Checks that one more call under this id fits.
    pub(super) fn has_room(&self, id: Option<&Id>) -> Result<(), Rejection> {
        if id.is_some_and(|id| self.by_id.contains_key(id)) {
            return Err(Rejection::new(
                "decode",
                "the id is in use by an unanswered request",
            ));
        }
        if self.live.len() >= self.most {
            let text = format!("a session has at most {} unanswered calls", self.most);
            return Err(Rejection::new("overloaded", text).retry_after(RETRY_AFTER));
        }
        Ok(())
    }

    /// Begins a call, or queues it behind one that keeps its lane.
    pub(super) fn begin(&mut self, id: Option<Id>, work: Work) -> Vec<Place> {
        let serial = self.next;
        self.next += 1;
        let answered = Arc::new(AtomicBool::new(false));
        let answering = self.answering(id.clone(), work.run, work.place.clone(), answered.clone());
        if let Some(id) = &id {
            self.by_id.insert(id.clone(), serial);
        }
        let lane = self.lanes.entry(work.lane.clone()).or_default();
        lane.queue.push_back((serial, answering));
        let live = Live {
            id,
            lane: work.lane.clone(),
            exclusive: work.exclusive,
            place: work.place,
            answered,
            task: None,
        };
        self.live.insert(serial, live);
        self.advance(&work.lane)
    }

    /// Notes that a call ended and begins what waited for it; returns subscriptions that failed.
    pub(super) fn done(&mut self, serial: Serial) -> Vec<Place> {
        while self.tasks.try_join_next().is_some() {}
        match self.remove(serial) {
            Some(live) => self.advance(&live.lane),
            None => Vec::new(), // It was cancelled meanwhile.
        }
    }

    /// Stops waiting for a call; says whether it was unanswered.
    pub(super) fn cancel(&mut self, id: &Id) -> (bool, Vec<Place>) {
        let Some(&serial) = self.by_id.get(id) else {
            return (false, Vec::new());
        };
        let answered = self
            .live
            .get(&serial)
            .map(|live| live.answered.swap(true, Ordering::AcqRel));
        if answered != Some(false) {
            return (false, Vec::new());
        }
        let Some(live) = self.remove(serial) else {
            return (false, Vec::new());
        };
        if let Some(task) = &live.task {
            task.abort();
        }
        let mut forgotten = self.advance(&live.lane);
        forgotten.extend(live.place);
        (true, forgotten)
    }

    /// Takes a call out of the books.
    fn remove(&mut self, serial: Serial) -> Option<Live> {
        let live = self.live.remove(&serial)?;
        if let Some(id) = &live.id {
            self.by_id.remove(id);
        }
        if let Some(lane) = self.lanes.get_mut(&live.lane) {
            let queued = lane.queue.iter().position(|(number, _)| *number == serial);
            match queued.and_then(|at| lane.queue.remove(at)) {
                Some(_) => {}
                None => {
                    lane.running -= 1;
                    lane.blocked &= !live.exclusive;
                }
            }
        }
        Some(live)
    }

    /// Begins what may begin in a lane.
    fn advance(&mut self, name: &Lane) -> Vec<Place> {
        let mut forgotten = Vec::new();
        while let Some(lane) = self.lanes.get_mut(name) {
            let next = if lane.blocked {
                None
            } else {
                lane.queue.pop_front()
            };
            let Some((serial, mut answering)) = next else {
                if lane.running == 0 && lane.queue.is_empty() {
                    self.lanes.remove(name);
                }
                break;
            };
            lane.running += 1;
            lane.blocked = self.live.get(&serial).is_some_and(|live| live.exclusive);
            // The first poll, here and now, is what keeps the order.
            if let Some(failed) = answering.as_mut().now_or_never() {
                self.remove(serial);
                forgotten.extend(failed);
                continue;
            }
            let session = self.session.clone();
            let task = self.tasks.spawn(async move {
                let failed = answering.await;
                // A session that is gone needs no notice.
                drop(session.cast(Notice::Done(serial, failed)));
            });
            if let Some(live) = self.live.get_mut(&serial) {
                live.task = Some(task);
            }
        }
        forgotten
    }

    /// Adds the answer to a call's work.
    fn answering(
        &self,
        id: Option<Id>,
        run: BoxFuture<'static, Outcome>,
        place: Option<Place>,
        answered: Arc<AtomicBool>,
    ) -> Answering {
        let (wire, outbound) = (self.wire, self.outbound.clone());
        let answering = async move {
            // A panic here is a mistake of ours; it costs the call, not the session.
            let outcome = AssertUnwindSafe(run)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| {
                    Outcome::from(Refusal::Crashed("the gateway failed on this call".into()))
                });
            if answered.swap(true, Ordering::AcqRel) {
                return place;
            }
            let failed = matches!(outcome, Outcome::Refused(_));
            if let Some(message) = outbound_of(wire, id.as_ref(), outcome) {
                drop(outbound.send(message).await);
            }
            place.filter(|_| failed)
        };
        answering.boxed()
    }
}

/// Returns what the writer is told of an outcome; a notification is not answered.
fn outbound_of(wire: Wire, id: Option<&Id>, outcome: Outcome) -> Option<Outbound> {
    let frame = match outcome {
        Outcome::Subscribed(feeding) => {
            let frame = id.map(|id| wire.success_of(id, &feeding.result));
            return Some(Outbound::Subscribed {
                frame,
                events: feeding.events,
            });
        }
        Outcome::Encoded(codec, encoded) if !encoded.ok => {
            let error = codec.decode::<Value>(&encoded.bytes).unwrap_or_default();
            wire.failure(Some(id?), None, &Rejection::rejected(error))
        }
        Outcome::Encoded(codec, encoded) if codec == wire.0 => wire.success(id?, &encoded.bytes),
        Outcome::Encoded(_, encoded) => {
            // Only answers of our own, asked for in JSON, come in another codec than the socket's.
            let value = Codec::Json
                .decode::<Value>(&encoded.bytes)
                .unwrap_or_default();
            wire.success_of(id?, &value)
        }
        Outcome::Position(position) => wire.success_of(id?, &position),
        Outcome::Refused(rejection) => wire.failure(Some(id?), None, &rejection),
    };
    Some(Outbound::Frame(frame))
}
