//! Stored messages that become due within the next minute, in memory, so that they fire on time.
//!
//! SQL has all of them; a refill every 20 s and each commit bring the near ones here. Due times are
//! database time, so the heap is armed with what remains and the node's clock never matters
//! (architecture D10, D13).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::{Clock, Instant},
    mailbox::MailboxRow,
};

/// How far ahead timers are kept in memory.
pub const HORIZON: Duration = Duration::from_secs(60);

/// The most timers kept in memory; later ones wait for a refill.
pub const TIMERS_MAX: usize = 200_000;

/// The timers of the next minute.
#[derive(Debug, Default)]
pub struct Timers {
    due: Mutex<Due>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Due {
    rows: BTreeMap<(Instant, i64), MailboxRow>,
    /// When each row fires, so that a refill does not add it twice.
    times: BTreeMap<i64, Instant>,
}

impl Timers {
    /// Adds a row that is due in `remaining`, unless it is here already.
    pub(crate) fn add(&self, clock: Clock, remaining: Duration, row: MailboxRow) {
        // Database time has whole milliseconds: one more, so that no timer fires early.
        let at = clock.now() + remaining + Duration::from_millis(1);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.rows.len() >= TIMERS_MAX || due.times.contains_key(&row.seq) {
            return;
        }
        let first = due
            .rows
            .first_key_value()
            .is_none_or(|((first, _), _)| at < *first);
        due.times.insert(row.seq, at);
        due.rows.insert((at, row.seq), row);
        drop(due);
        if first {
            self.changed.notify_one();
        }
    }

    /// Returns the number of timers in memory.
    pub fn len(&self) -> usize {
        self.due
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rows
            .len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next timer and takes it. Cancel safe: nothing is awaited once one is taken.
    pub(crate) async fn next(&self, clock: Clock) -> (Duration, MailboxRow) {
        loop {
            let next = {
                let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
                let now = clock.now();
                match due.rows.first_key_value().map(|((at, _), _)| *at) {
                    Some(at) if at <= now => {
                        let (_, mut row) = due.rows.pop_first().expect("the first was just seen");
                        due.times.remove(&row.seq);
                        row.due_in = Duration::ZERO;
                        return (now - at, row);
                    }
                    first => first,
                }
            };
            match next {
                None => self.changed.notified().await,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.changed.notified() => {}
                        () = clock.sleep_until(at) => {}
                    }
                }
            }
        }
    }
}
