//! What an activation keeps of its commits and stored messages.
//!
//! Everything here is guarded by its slot's lock (`slot.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Handlers, delivery::Delivery, slot::Inner};
use crate::id::CallId;

/// A reply that waits for a commit; it is told whether that succeeded.
pub(crate) type Waiting = Box<dyn FnOnce(Result<(), ()>) + Send>;

/// What a durable activation keeps of its commits and rows.
pub(crate) struct Books<K: Handlers> {
    /// State must be read before anything runs.
    pub(crate) stale: bool,
    pub(crate) uncommitted: usize,
    pub(crate) uncommitted_bytes: usize,
    pub(super) last_sequence: u64,
    /// Replies that wait for the commit of the sequence beside them.
    pub(super) waiting: VecDeque<(u64, Waiting)>,
    /// Messages to run again after a reload.
    pub(super) redo: Vec<Delivery<K>>,
    /// Rows in memory.
    pub(super) rows: BTreeSet<i64>,
    /// Rows beyond this one were left in SQL.
    pub(crate) rows_behind: bool,
    pub(crate) last_row: i64,
    /// The last look ended at `last_row` for want of room or patience; the next one goes on there.
    /// Any other begins anew: rows handed on in memory may have passed some that nobody told of.
    paging: bool,
    /// The lowest row that was left in SQL since the last look began, which may not have seen it.
    missed: Option<i64>,
    /// Calls with this number and later ones came after a row that was left in SQL: they wait for
    /// the next look, and stand behind what it brings.
    pub(crate) waits_from: Option<u64>,
    /// When rows were last looked for, in the order of the hosting's activations.
    read_at: u64,
    /// Due timers, and rows passed by, that must be read by their numbers.
    pub(crate) again: Vec<i64>,
    /// Rows of messages that are in flight as calls under the same id: each is read again when that
    /// call is done, and finds its outcome stored.
    pub(super) after: Vec<(CallId, i64)>,
    pub(crate) failures: u32,
}

/// What of an entity's messages must be read.
pub(crate) struct Unread {
    /// The number after which messages follow, and how many of them.
    pub(crate) after: i64,
    pub(crate) most: u32,
    /// Timers and passed-by rows by number.
    pub(crate) timers: Vec<i64>,
    /// The first call that stands behind what is read.
    pub(crate) waits_from: Option<u64>,
}

/// Rows of one entity fetched at a time.
const ROWS: u32 = 512;

impl<K: Handlers> Books<K> {
    pub(crate) fn new() -> Self {
        Self {
            stale: true,
            uncommitted: 0,
            uncommitted_bytes: 0,
            last_sequence: 0,
            waiting: VecDeque::new(),
            redo: Vec::new(),
            rows: BTreeSet::new(),
            rows_behind: false,
            last_row: 0,
            paging: false,
            missed: None,
            waits_from: None,
            read_at: 0,
            again: Vec::new(),
            after: Vec::new(),
            failures: 0,
        }
    }

    /// Says whether a sender that was loaded at `since` may have rows here from before, which
    /// nobody told of: its former life, or a commit whose end was unknown.
    pub(crate) fn may_lack(&self, since: u64) -> bool {
        since > self.read_at
    }

    /// Says whether rows were left in SQL.
    pub(crate) fn has_unread(&self) -> bool {
        self.rows_behind || !self.again.is_empty()
    }

    /// Says whether the row is in memory, or will be read when there is room or the pause is over.
    pub(crate) fn holds(&self, seq: i64) -> bool {
        let timers = &self.again;
        let after = self.after.iter().any(|(_, after)| *after == seq);
        self.rows.contains(&seq) || self.rows_behind || self.stale || after || timers.contains(&seq)
    }
}

impl<K: Handlers> Inner<K> {
    /// Queues a row that is new here, or notes that rows stay in SQL for want of room. Rows take
    /// half of the mailbox at most, so that a backlog does not keep callers out.
    /// Says whether it is in memory now.
    pub(crate) fn add_row(&mut self, delivery: Delivery<K>, seq: i64) -> bool {
        let timer = delivery.row().is_some_and(|row| row.timer);
        let known = self.books.after.iter().any(|(_, after)| *after == seq);
        if known || self.books.rows.contains(&seq) {
            if !timer {
                self.books.last_row = self.books.last_row.max(seq);
            }
            return true;
        }
        let full = self.load() >= K::OPTIONS.mailbox
            || self.books.rows.len() >= K::OPTIONS.mailbox.div_ceil(2);
        let identity = delivery.identity();
        if let Some(same) = identity.filter(|same| self.in_flight.has(same.id)) {
            self.books.after.push((same.id, seq));
            return true;
        }
        if full {
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

    /// Returns the numbers and attempts of the rows that are queued.
    pub(crate) fn queued_rows(&self) -> BTreeMap<i64, u32> {
        let rows = self.queue.iter().filter_map(Delivery::row);
        rows.map(|row| (row.seq, row.attempts)).collect()
    }

    /// Forgets a row that is done or moved away.
    pub(crate) fn row_done(&mut self, seq: i64) {
        self.books.rows.remove(&seq);
    }

    /// Says whether it is time to fetch rows that were left in SQL.
    ///
    /// Rows that a look brought, and calls from before the news since, go first: so each look is
    /// followed by work, though news need never end.
    pub(super) fn wants_rows(&self) -> bool {
        let older = |head: &Delivery<K>| match self.books.waits_from {
            Some(from) => head.row().is_some() || head.number < from,
            None => false,
        };
        if self.queue.front().is_some_and(older) {
            return false;
        }
        let room = self.load() < K::OPTIONS.mailbox;
        !self.retiring
            && self.books.has_unread()
            && room
            && self.books.rows.len() <= K::OPTIONS.mailbox / 4
    }

    /// A call is done: rows of the same message are looked at.
    pub(super) fn id_done(&mut self, id: CallId) {
        let books = &mut self.books;
        let waiting = books.after.extract_if(.., |(after, _)| *after == id);
        let known = books.again.len();
        books.again.extend(waiting.map(|(_, seq)| seq));
        if books.again.len() > known {
            self.poke();
        }
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
    pub(crate) fn loaded(
        &mut self,
        rows: Vec<(Delivery<K>, i64)>,
        more: bool,
        looked_for: Option<u64>,
    ) {
        let first = std::mem::take(&mut self.books.stale);
        self.books.rows_behind = false;
        // What was stored before this activation is older than the calls that woke it, and a row
        // that was put back is older than those read now.
        // Those that came after a row which was left in SQL are younger than that row, too.
        let from = if first { Some(0) } else { looked_for };
        let mut calls = VecDeque::new();
        if let Some(from) = from {
            let waiting = std::mem::take(&mut self.queue).into_iter();
            (self.queue, calls) =
                waiting.partition(|delivery| delivery.row().is_some() || delivery.number < from);
        }
        let mut redo = std::mem::take(&mut self.books.redo);
        redo.sort_by_key(|delivery| delivery.number);
        for delivery in redo.into_iter().rev() {
            self.queue.push_front(delivery);
        }
        for (delivery, seq) in rows {
            let timer = delivery.row().is_some_and(|row| row.timer);
            if !self.add_row(delivery, seq) && timer {
                self.books.again.push(seq);
            }
            if self.books.rows_behind {
                break; // A later one must not overtake it.
            }
        }
        self.queue.extend(calls);
        self.books.rows_behind |= more;
        self.books.paging = self.books.rows_behind;
        // What lies behind a page that was full is found by the next page.
        let (paging, last) = (self.books.paging, self.books.last_row);
        let found = |missed: i64| paging && missed > last;
        if self.books.missed.is_some_and(|missed| !found(missed)) {
            self.look_again();
        }
    }

    /// Notes that the store has rows which are not in memory, perhaps older than some that are.
    pub(crate) fn look_again(&mut self) {
        (self.books.rows_behind, self.books.paging) = (true, false);
        self.left_row(0);
    }

    /// Notes that a row was left in SQL, to be read in its order; 0 for one nobody knows.
    pub(crate) fn left_row(&mut self, seq: i64) {
        let missed = &mut self.books.missed;
        *missed = Some(missed.map_or(seq, |missed| missed.min(seq)));
        self.books.waits_from.get_or_insert(self.next_number);
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
            self.read_again(&delivery);
        }
        self.books.rows.clear();
        self.look_again();
    }

    /// Notes a timer that leaves memory although it may still be in the store.
    pub(crate) fn read_again(&mut self, delivery: &Delivery<K>) {
        if let Some(row) = delivery.row().filter(|row| row.timer) {
            self.books.again.push(row.seq);
        }
    }

    /// Returns what must be read. `now` is before the look.
    pub(crate) fn unread(&mut self, now: u64) -> Unread {
        let books = &mut self.books;
        (books.read_at, books.missed) = (now, None);
        if !books.paging {
            books.last_row = 0;
        }
        let known = u32::try_from(books.rows.len()).unwrap_or(u32::MAX);
        Unread {
            after: books.last_row,
            // Beyond those in memory, so that each look brings something: others wait for it.
            most: ROWS.saturating_add(known),
            timers: std::mem::take(&mut books.again),
            waits_from: books.waits_from.take(),
        }
    }
}
