//! An activation's queue and books: admission, in-flight ids, what waits for a commit.
//!
//! The queue is ours because ractor's mailboxes are unbounded and a panic drops them
//! (architecture D7). The host (`host.rs`) takes from here; callers and the committer lane put
//! here. Every method is a short critical section without I/O.

mod ending;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ractor::ActorRef;

pub(crate) use ending::Idle;

use super::{
    Encoded, Handlers,
    books::Books,
    delivery::Delivery,
    host::Poke,
    in_flight::{InFlight, Joined},
};
use crate::{
    clock::Instant,
    error::Refusal,
    hosting::Looks,
    id::{CallId, EntityKey, ShardId},
    shards::Tenure,
    wheel::AlarmId,
};

/// What a refused caller is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Messages of one entity that may run ahead of their commits.
pub(crate) const AHEAD_MESSAGES_MAX: usize = 256;

/// Bytes of one entity that may wait for their commits.
pub(crate) const AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// One activation as everybody but its host sees it.
pub(crate) struct Slot<K: Handlers> {
    pub(crate) key: EntityKey,
    pub(crate) shard: ShardId,
    /// Unique on this node.
    pub(crate) activation: u64,
    /// The tenure of the shard that it was made in: it is good for no other.
    pub(crate) tenure: Tenure,
    inner: Mutex<Inner<K>>,
}

/// What the host should do next.
pub(crate) enum Next<K: Handlers> {
    /// Handle this.
    Run(Delivery<K>),
    /// Nothing now; a poke will follow.
    Wait,
    /// Read state and rows from the store; everything earlier was answered by the lane.
    Load,
    /// End.
    Stop,
}

/// Why a message was not admitted.
pub(crate) enum Admission<K: Handlers> {
    /// It is queued under this number.
    Queued(u64),
    /// It joined an earlier message with the same identity.
    Joined,
    /// This activation ended: look for the next one.
    Closed(Delivery<K>),
    /// It was answered with this.
    Refused(Refusal),
}

/// What became of a stored message.
pub(crate) enum RowAdmission {
    /// It is queued, or the entity will read it from SQL in its place.
    Known,
    /// It is a timer, which nothing reads again soon, and there is no room.
    Full,
    /// This activation ended: look for the next one.
    Closed,
}

pub(crate) struct Inner<K: Handlers> {
    pub(super) queue: VecDeque<Delivery<K>>,
    pub(crate) actor: Option<ActorRef<Poke>>,
    poked: bool,
    pub(crate) closed: bool,
    /// It takes nothing more and ends when it has run what it has.
    pub(super) retiring: bool,
    /// One while a handler runs.
    pub(super) running: usize,
    pub(super) next_number: u64,
    touched: Instant,
    pub(super) in_flight: InFlight<K>,
    /// Rings when it may have been idle for long enough.
    idle_alarm: Option<AlarmId>,
    /// Its host is gone: nothing is submitted any more.
    ended: bool,
    /// Not before this (restart backoff).
    pub(crate) held_until: Option<Instant>,
    pub(crate) books: Books<K>,
}

impl<K: Handlers> Slot<K> {
    pub(crate) fn new(
        key: EntityKey,
        (shard, tenure): (ShardId, Tenure),
        activation: u64,
        now: Instant,
    ) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            actor: None,
            poked: false,
            closed: false,
            retiring: false,
            running: 0,
            next_number: 0,
            touched: now,
            in_flight: InFlight::new(),
            idle_alarm: None,
            ended: false,
            held_until: None,
            books: Books::new(),
        };
        Self {
            key,
            shard,
            activation,
            tenure,
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a caller's message in, or says why not.
    pub(crate) fn admit(&self, mut delivery: Delivery<K>) -> Admission<K> {
        let mut inner = self.lock();
        if inner.closed || inner.retiring {
            return Admission::Closed(delivery);
        }
        let full = || {
            let retry_after = RETRY_AFTER;
            Admission::Refused(Refusal::Overloaded { retry_after })
        };
        if let Some(identity) = delivery.identity() {
            let most = K::OPTIONS.mailbox;
            match inner.in_flight.join(identity, &mut delivery.reply, most) {
                Joined::No => {}
                Joined::KeyReused => return Admission::Refused(Refusal::KeyReused),
                Joined::Full => return full(),
                Joined::Yes => {
                    inner.extend_deadline(identity.id, delivery.deadline);
                    return Admission::Joined;
                }
            }
        }
        if inner.load() >= K::OPTIONS.mailbox {
            return full();
        }
        let number = inner.push(delivery);
        inner.poke();
        Admission::Queued(number)
    }

    /// Takes a stored message in; one that is here already, or that must stay in SQL to keep its
    /// order, is left out. `since` is when its sender was loaded, 0 if it has no past.
    pub(crate) fn admit_row(
        &self,
        delivery: Delivery<K>,
        seq: i64,
        since: u64,
        looks: &Looks,
    ) -> RowAdmission {
        let mut inner = self.lock();
        if looks.saw_done(seq) {
            return RowAdmission::Known;
        }
        if inner.closed || inner.retiring {
            return RowAdmission::Closed;
        }
        // Before a durable entity's load, and while behind, SQL has the order: reading it finds the
        // row.
        let unread = K::DURABLE.is_some() && inner.books.stale;
        let timer = delivery.row().is_some_and(|row| row.timer);
        let mut known = true;
        if !timer && inner.books.may_lack(since) {
            inner.look_again();
        }
        if timer || !unread && !inner.books.rows_behind {
            known = inner.add_row(delivery, seq);
        } else {
            inner.left_row(seq);
        }
        inner.poke();
        if timer && !known {
            return RowAdmission::Full;
        }
        RowAdmission::Known
    }

    /// Takes back a message that did not start; says whether it was still queued.
    pub(crate) fn withdraw(&self, number: u64) -> bool {
        let mut inner = self.lock();
        let Some(at) = inner
            .queue
            .iter()
            .position(|delivery| delivery.number == number)
        else {
            return false;
        };
        let identity = inner.queue[at].identity();
        let joined = identity.and_then(|identity| inner.in_flight.take_heir(identity.id));
        if let Some(waiter) = joined {
            // Somebody else made the same call: it stays, in their name.
            inner.queue[at].reply = waiter;
        } else {
            let delivery = inner.queue.remove(at).expect("the position was just found");
            inner.forget_identity(&delivery);
        }
        true
    }

    /// Says what the host should do next. While the lane is `pressed`, nothing runs ahead.
    pub(crate) fn next(&self, now: Instant, pressed: bool) -> Next<K> {
        let mut inner = self.lock();
        inner.running = 0;
        if inner.closed {
            return Next::Stop;
        }
        if inner.retiring && inner.is_done() {
            inner.closed = true;
            return Next::Stop;
        }
        if inner.held_until.is_some_and(|until| until > now) {
            inner.poked = false;
            return Next::Wait;
        }
        inner.held_until = None;
        if inner.books.stale || inner.wants_rows() {
            if inner.books.uncommitted > 0 {
                inner.poked = false;
                return Next::Wait;
            }
            return Next::Load;
        }
        let Some(head) = inner.queue.front() else {
            inner.poked = false;
            inner.touched = now;
            return Next::Wait;
        };
        if !inner.may_start(head, pressed) {
            inner.poked = false;
            return Next::Wait;
        }
        inner.running = 1;
        Next::Run(inner.queue.pop_front().expect("the front was just seen"))
    }

    /// Notes that the store has messages which are not in memory.
    pub(crate) fn ring(&self) {
        let mut inner = self.lock();
        inner.look_again();
        inner.poke();
    }

    /// Returns when it was last used, if it is idle.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.is_idle().then_some(inner.touched)
    }

    /// Returns the number of messages running and queued.
    pub(crate) fn depth(&self) -> usize {
        self.lock().load()
    }

    /// Answers a message and all repeats that joined it.
    pub(crate) fn settle(&self, delivery: Delivery<K>, outcome: Settled<K>) {
        let joined = delivery.identity().map(|identity| {
            let mut inner = self.lock();
            let joined = inner.in_flight.end(identity.id);
            inner.id_done(identity.id);
            joined
        });
        let waiters = joined.unwrap_or_default();
        match outcome {
            Settled::Refused(refusal) => {
                for waiter in waiters {
                    waiter.refuse(refusal.clone());
                }
                delivery.reply.refuse(refusal);
            }
            Settled::Stored(encoded) => {
                for waiter in waiters.into_iter().chain([delivery.reply]) {
                    waiter.answer_stored(delivery.method, &encoded);
                }
            }
            Settled::Done(outcome, encoded) => {
                if let Some(encoded) = encoded {
                    for waiter in waiters {
                        waiter.answer_stored(delivery.method, &encoded);
                    }
                }
                delivery.reply.answer(outcome);
            }
        }
    }
}

/// How a message ended.
pub(crate) enum Settled<K: Handlers> {
    /// With an outcome, also in bytes if it has an identity.
    Done(K::Outcome, Option<Encoded>),
    /// With the outcome an earlier run stored.
    Stored(Encoded),
    /// Without an outcome.
    Refused(Refusal),
}

impl<K: Handlers> Inner<K> {
    pub(super) fn load(&self) -> usize {
        self.queue.len() + self.running + self.books.uncommitted
    }

    /// Says whether nothing will be heard of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.books.uncommitted == 0
    }

    fn is_done(&self) -> bool {
        self.queue.is_empty() && self.books.uncommitted == 0 && self.books.redo.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.load() == 0 && !self.poked && self.books.redo.is_empty()
    }

    /// A repeat joined a queued call: it may run until the later of their deadlines.
    fn extend_deadline(&mut self, id: CallId, deadline: Option<Instant>) {
        let same =
            |queued: &&mut Delivery<K>| queued.identity().is_some_and(|identity| identity.id == id);
        if let Some(queued) = self.queue.iter_mut().find(same) {
            queued.deadline = queued.deadline.zip(deadline).map(|(a, b)| a.max(b));
        }
    }

    pub(super) fn push(&mut self, mut delivery: Delivery<K>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        delivery.number = number;
        if let Some(identity) = delivery.identity() {
            self.in_flight.begin(identity);
        }
        self.queue.push_back(delivery);
        number
    }

    /// A plain `fn` may run ahead of its entity's commits; an `async fn` may not, because what it
    /// awaits can be seen outside (architecture D6).
    fn may_start(&self, head: &Delivery<K>, pressed: bool) -> bool {
        let books = &self.books;
        let suspect = head.row().is_some_and(|row| row.suspect);
        if K::METHODS[head.method].runs_ahead && !suspect && !pressed {
            books.uncommitted < AHEAD_MESSAGES_MAX && books.uncommitted_bytes < AHEAD_BYTES_MAX
        } else {
            books.uncommitted == 0
        }
    }

    /// Wakes the host unless it is awake.
    pub(crate) fn poke(&mut self) {
        if !self.poked
            && let Some(actor) = &self.actor
        {
            self.poked = true;
            // An actor that is gone answers for its queue when its state is dropped.
            drop(actor.cast(Poke));
        }
    }

    /// Hands the host over: from now on pokes reach it.
    pub(crate) fn attach(&mut self, actor: ActorRef<Poke>) {
        self.actor = Some(actor);
        self.poke();
    }

    /// Puts a message back to the front of the queue.
    pub(crate) fn put_back(&mut self, delivery: Delivery<K>) {
        self.queue.push_front(delivery);
    }

    /// Forgets that a message is in flight; for one that nobody waits for.
    pub(crate) fn forget_identity(&mut self, delivery: &Delivery<K>) {
        if let Some(identity) = delivery.identity() {
            self.in_flight.end(identity.id);
            self.id_done(identity.id);
        }
    }

    /// Empties the queue, for answers that cannot be given by running it.
    pub(crate) fn drain(&mut self) -> Vec<Delivery<K>> {
        let redo = std::mem::take(&mut self.books.redo);
        redo.into_iter().chain(self.queue.drain(..)).collect()
    }
}

pub(crate) type Shared<K> = Arc<Slot<K>>;
