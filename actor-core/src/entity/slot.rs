//! An activation's queue and books: admission, in-flight ids, what waits for a commit.
//!
//! The queue is ours because ractor's mailboxes are unbounded and a panic drops them
//! (architecture D7). The host (`host.rs`) takes from here; callers and the committer lane put
//! here. Every method is a short critical section without I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ractor::ActorRef;

use super::{
    Encoded, Handlers,
    delivery::{Delivery, Reply},
    host::Poke,
};
use crate::{
    clock::Instant,
    error::Refusal,
    id::{CallId, EntityKey, ShardId},
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
    queue: VecDeque<Delivery<K>>,
    pub(crate) actor: Option<ActorRef<Poke>>,
    poked: bool,
    pub(crate) closed: bool,
    /// One while a handler runs.
    running: usize,
    next_number: u64,
    touched: Instant,
    /// Joined repeats by call id; an entry without waiters marks an id in flight.
    in_flight: BTreeMap<CallId, InFlight<K>>,
    /// Not before this (restart backoff).
    pub(crate) held_until: Option<Instant>,
    pub(crate) books: Books<K>,
}

struct InFlight<K: Handlers> {
    hash: u64,
    waiters: Vec<Reply<K>>,
}

/// A reply that waits for a commit; it is told whether that succeeded.
pub(crate) type Waiting = Box<dyn FnOnce(Result<(), ()>) + Send>;

/// What a durable activation keeps of its commits and rows.
pub(crate) struct Books<K: Handlers> {
    /// State must be read before anything runs.
    pub(crate) stale: bool,
    pub(crate) uncommitted: usize,
    pub(crate) uncommitted_bytes: usize,
    last_sequence: u64,
    /// Replies that wait for the commit of the sequence beside them.
    waiting: VecDeque<(u64, Waiting)>,
    /// Messages to run again after a reload.
    redo: Vec<Delivery<K>>,
    /// Rows in memory.
    rows: BTreeSet<i64>,
    /// Rows beyond this one were left in SQL.
    pub(crate) rows_behind: bool,
    pub(crate) last_row: i64,
    pub(crate) failures: u32,
}

impl<K: Handlers> Slot<K> {
    pub(crate) fn new(key: EntityKey, shard: ShardId, activation: u64, now: Instant) -> Self {
        let inner = Inner {
            queue: VecDeque::new(),
            actor: None,
            poked: false,
            closed: false,
            running: 0,
            next_number: 0,
            touched: now,
            in_flight: BTreeMap::new(),
            held_until: None,
            books: Books {
                stale: true,
                uncommitted: 0,
                uncommitted_bytes: 0,
                last_sequence: 0,
                waiting: VecDeque::new(),
                redo: Vec::new(),
                rows: BTreeSet::new(),
                rows_behind: false,
                last_row: 0,
                failures: 0,
            },
        };
        Self {
            key,
            shard,
            activation,
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a caller's message in, or says why not.
    pub(crate) fn admit(&self, mut delivery: Delivery<K>) -> Admission<K> {
        let mut inner = self.lock();
        if inner.closed {
            return Admission::Closed(delivery);
        }
        if let Some(identity) = delivery.identity()
            && let Some(earlier) = inner.in_flight.get_mut(&identity.id)
        {
            if earlier.hash != identity.hash {
                return Admission::Refused(Refusal::KeyReused);
            }
            earlier
                .waiters
                .push(std::mem::replace(&mut delivery.reply, Reply::Nobody));
            inner.extend_deadline(identity.id, delivery.deadline);
            return Admission::Joined;
        }
        if inner.load() >= K::OPTIONS.mailbox {
            return Admission::Refused(Refusal::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        let number = inner.push(delivery);
        inner.poke();
        Admission::Queued(number)
    }

    /// Takes a stored message in; one that is here already, or that must stay in SQL to keep its
    /// order, is left out.
    pub(crate) fn admit_row(&self, delivery: Delivery<K>, seq: i64) -> RowAdmission {
        let mut inner = self.lock();
        if inner.closed {
            return RowAdmission::Closed;
        }
        // Before a durable entity's load, and while behind, SQL has the order: reading it finds the
        // row.
        let unread = K::DURABLE.is_some() && inner.books.stale;
        let timer = delivery.row().is_some_and(|row| row.timer);
        let mut known = true;
        if timer || !unread && !inner.books.rows_behind {
            known = inner.add_row(delivery, seq);
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
        let joined =
            identity.and_then(|identity| inner.in_flight.get_mut(&identity.id)?.waiters.pop());
        if let Some(waiter) = joined {
            // Somebody else still waits for the same call: it stays, in their name.
            inner.queue[at].reply = waiter;
        } else {
            let delivery = inner.queue.remove(at).expect("the position was just found");
            inner.forget_identity(&delivery);
        }
        true
    }

    /// Says what the host should do next.
    pub(crate) fn next(&self, now: Instant) -> Next<K> {
        let mut inner = self.lock();
        inner.running = 0;
        if inner.closed {
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
        if !inner.may_start(head) {
            inner.poked = false;
            return Next::Wait;
        }
        inner.running = 1;
        Next::Run(inner.queue.pop_front().expect("the front was just seen"))
    }

    /// Ends the activation if it has nothing to do and was not used for `idle`.
    ///
    /// Returns `None` when it ended, otherwise the time it was last used.
    pub(crate) fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant> {
        let mut inner = self.lock();
        if inner.is_idle() && now.saturating_duration_since(inner.touched) >= idle {
            inner.closed = true;
            inner.poke();
            return None;
        }
        Some(if inner.is_idle() { inner.touched } else { now })
    }

    /// Ends the activation whatever it does; what is queued is returned.
    pub(crate) fn close(&self) -> Vec<Delivery<K>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.poke();
        inner.queue.drain(..).collect()
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
        let joined = delivery.identity().and_then(|identity| {
            self.lock()
                .in_flight
                .remove(&identity.id)
                .map(|joined| joined.waiters)
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

impl<K: Handlers> Books<K> {
    /// Says whether the row is in memory, or will be read when there is room or the pause is over.
    pub(crate) fn holds(&self, seq: i64) -> bool {
        self.rows.contains(&seq) || self.rows_behind || self.stale
    }
}

impl<K: Handlers> Inner<K> {
    fn load(&self) -> usize {
        self.queue.len() + self.running + self.books.uncommitted
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

    fn push(&mut self, mut delivery: Delivery<K>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        delivery.number = number;
        if let Some(identity) = delivery.identity() {
            self.in_flight.insert(
                identity.id,
                InFlight {
                    hash: identity.hash,
                    waiters: Vec::new(),
                },
            );
        }
        self.queue.push_back(delivery);
        number
    }

    /// Queues a row that is new here, or notes that rows stay in SQL for want of room. Rows take
    /// half of the mailbox at most, so that a backlog does not keep callers out.
    /// Says whether it is in memory now.
    pub(crate) fn add_row(&mut self, delivery: Delivery<K>, seq: i64) -> bool {
        if self.books.rows.contains(&seq) {
            return true;
        }
        let timer = delivery.row().is_some_and(|row| row.timer);
        let full = self.load() >= K::OPTIONS.mailbox
            || self.books.rows.len() >= K::OPTIONS.mailbox.div_ceil(2);
        // A call with the same key may be in flight: then the row is looked at when that is done.
        let identity = delivery.identity();
        if full || identity.is_some_and(|same| self.in_flight.contains_key(&same.id)) {
            self.books.rows_behind |= !timer;
            return false;
        }
        self.books.rows.insert(seq);
        if !timer {
            self.books.last_row = self.books.last_row.max(seq);
        }
        self.push(delivery);
        true
    }

    /// Forgets a row that is done or moved away.
    pub(crate) fn row_done(&mut self, seq: i64) {
        self.books.rows.remove(&seq);
    }

    /// Says whether it is time to fetch rows that were left in SQL.
    fn wants_rows(&self) -> bool {
        let room = self.load() < K::OPTIONS.mailbox;
        self.books.rows_behind && room && self.books.rows.len() <= K::OPTIONS.mailbox / 4
    }

    /// A plain `fn` may run ahead of its entity's commits; an `async fn` may not, because what it
    /// awaits can be seen outside (architecture D6).
    fn may_start(&self, head: &Delivery<K>) -> bool {
        let books = &self.books;
        let suspect = head.row().is_some_and(|row| row.suspect);
        if K::METHODS[head.method].runs_ahead && !suspect {
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

    /// Notes an item given to the lane; returns its sequence.
    pub(crate) fn submitted(&mut self, bytes: usize) -> u64 {
        self.books.uncommitted += 1;
        self.books.uncommitted_bytes += bytes;
        self.books.last_sequence += 1;
        self.books.last_sequence
    }

    /// Lets `reply` wait for all commits so far; gives it back if there is none to wait for.
    pub(crate) fn after_commits(&mut self, reply: Waiting) -> Option<Waiting> {
        if self.books.uncommitted == 0 {
            return Some(reply);
        }
        self.books
            .waiting
            .push_back((self.books.last_sequence, reply));
        None
    }

    /// Notes the lane's answer to the item `sequence`; returns the replies that waited for it.
    pub(crate) fn answered(
        &mut self,
        sequence: u64,
        bytes: usize,
        committed: bool,
    ) -> Vec<Waiting> {
        let books = &mut self.books;
        books.uncommitted -= 1;
        books.uncommitted_bytes -= bytes;
        if committed {
            books.failures = 0;
        } else {
            books.stale = true;
        }
        let mut released = Vec::new();
        while books
            .waiting
            .front()
            .is_some_and(|(until, _)| *until <= sequence)
        {
            released.extend(books.waiting.pop_front().map(|(_, reply)| reply));
        }
        self.poke();
        released
    }

    /// Keeps a message that must run again after the reload.
    pub(crate) fn redo(&mut self, delivery: Delivery<K>) {
        self.books.redo.push(delivery);
    }

    /// The state was read: what must run again goes first, in its old order, then the rows.
    pub(crate) fn loaded(&mut self, rows: Vec<(Delivery<K>, i64)>, more: bool) {
        let first = std::mem::take(&mut self.books.stale);
        self.books.rows_behind = false;
        // What was stored before this activation is older than the calls that woke it, and a row
        // that was put back is older than those read now.
        let mut calls = VecDeque::new();
        if first {
            let waiting = std::mem::take(&mut self.queue).into_iter();
            (self.queue, calls) = waiting.partition(|delivery| delivery.row().is_some());
        }
        let mut redo = std::mem::take(&mut self.books.redo);
        redo.sort_by_key(|delivery| delivery.number);
        for delivery in redo.into_iter().rev() {
            self.queue.push_front(delivery);
        }
        for (delivery, seq) in rows {
            self.add_row(delivery, seq);
            if self.books.rows_behind {
                break; // A later one must not overtake it.
            }
        }
        self.queue.extend(calls);
        self.books.rows_behind |= more;
    }

    /// Puts a message back to the front of the queue.
    pub(crate) fn put_back(&mut self, delivery: Delivery<K>) {
        self.queue.push_front(delivery);
    }

    /// Forgets all rows: SQL is read again.
    pub(crate) fn drop_rows(&mut self) {
        let (queue, redo) = (
            std::mem::take(&mut self.queue),
            std::mem::take(&mut self.books.redo),
        );
        let (rows, queue): (VecDeque<_>, VecDeque<_>) = queue
            .into_iter()
            .partition(|delivery| delivery.row().is_some());
        let (redo_rows, redo): (Vec<_>, Vec<_>) = redo
            .into_iter()
            .partition(|delivery| delivery.row().is_some());
        (self.queue, self.books.redo) = (queue, redo);
        for delivery in rows.into_iter().chain(redo_rows) {
            self.forget_identity(&delivery);
        }
        self.books.rows.clear();
        self.books.last_row = 0;
        self.books.rows_behind = true;
    }

    /// Forgets that a message is in flight; for one that nobody waits for.
    pub(crate) fn forget_identity(&mut self, delivery: &Delivery<K>) {
        if let Some(identity) = delivery.identity() {
            self.in_flight.remove(&identity.id);
        }
    }

    /// Empties the queue, for answers that cannot be given by running it.
    pub(crate) fn drain(&mut self) -> Vec<Delivery<K>> {
        let redo = std::mem::take(&mut self.books.redo);
        redo.into_iter().chain(self.queue.drain(..)).collect()
    }
}

/// Slots as the wheel and the residency cap see them.
pub(crate) trait Idle: Send + Sync {
    /// As [`Slot::close_if_idle`].
    fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant>;
}

impl<K: Handlers> Idle for Slot<K> {
    fn close_if_idle(&self, now: Instant, idle: Duration) -> Option<Instant> {
        Slot::close_if_idle(self, now, idle)
    }
}

pub(crate) type Shared<K> = Arc<Slot<K>>;
