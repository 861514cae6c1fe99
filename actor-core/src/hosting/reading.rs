//! Stored messages that are done while lists of them are being read.
//!
//! A message in a list may be done before the list is handed on. Nobody has it in memory then, so
//! it would run again, in vain: its commit finds no row, and all that ran after it on the same
//! state is thrown away. What is done during a look is therefore remembered until the look ends.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The looks that are under way, and what was done since the oldest of them began.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<Under>);

#[derive(Debug, Default)]
struct Under {
    way: usize,
    done: BTreeSet<i64>,
    fired: BTreeSet<i64>,
}

/// One look; it lasts until its rows were handed on.
#[derive(Debug)]
pub(super) struct Look<'a>(&'a Looks);

impl Looks {
    /// Begins a look: to be called before the store is asked.
    pub(super) fn begin(&self) -> Look<'_> {
        self.lock().way += 1;
        Look(self)
    }

    /// Notes that a row is gone for good: to be called before its activation forgets it.
    pub(crate) fn done(&self, seq: i64) {
        let mut under = self.lock();
        if under.way > 0 {
            under.done.insert(seq);
        }
    }

    /// Says whether a row was done while a look that may have brought it was under way. Only of use
    /// while no activation can forget the row: under the lock of its slot.
    pub(crate) fn saw_done(&self, seq: i64) -> bool {
        self.lock().done.contains(&seq)
    }

    /// Notes that a timer left the timers in memory, because it is due.
    pub(super) fn fired(&self, seq: i64) {
        let mut under = self.lock();
        if under.way > 0 {
            under.fired.insert(seq);
        }
    }

    /// Says whether a timer became due since it was read.
    pub(super) fn saw_fired(&self, seq: i64) -> bool {
        self.lock().fired.contains(&seq)
    }

    fn lock(&self) -> MutexGuard<'_, Under> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut under = self.0.lock();
        under.way -= 1;
        if under.way == 0 {
            under.done.clear();
            under.fired.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_remembered_until_the_last_look_ends() {
        let looks = Looks::default();
        looks.done(1);
        let first = looks.begin();
        looks.done(2);
        let second = looks.begin();
        drop(first);
        looks.done(3);

        assert_eq!(
            [1, 2, 3].map(|seq| looks.saw_done(seq)),
            [false, true, true]
        );

        drop(second);
        assert!(!looks.saw_done(2) && !looks.saw_done(3));
    }
}
