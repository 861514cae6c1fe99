//! Looking for idle activations when there are too many, and not again while it is in vain.
//!
//! A look visits every activation of the node, and who asks for one is often in a hurry: a caller,
//! a lane, a link, a page of stored messages. Not here: who leaves (`residency`).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::clock::Instant;

/// So long it is believed that nothing is idle although nobody said otherwise: not all that become
/// idle say so (runs of workflows, entities whose only call was taken back).
const BELIEVED: Duration = Duration::from_millis(100);

/// The looks of a node.
#[derive(Debug, Default)]
pub(super) struct Search {
    count: AtomicU64,
    /// The last look found nothing, and nothing said since it began that it became idle.
    in_vain: AtomicBool,
    /// Until when that is believed. Who looks holds it, so that others use what was found.
    until: Mutex<Option<Instant>>,
}

impl Search {
    /// Returns how often it was looked.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Says whether the last look was in vain and nothing became idle since.
    pub(super) fn is_in_vain(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed)
    }

    /// Looks, unless that is known to be in vain; says whether `look` let any leave.
    pub(super) fn run(&self, now: Instant, look: impl FnOnce() -> usize) -> bool {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_in_vain() && until.is_some_and(|until| now < until) {
            return false;
        }
        // Before the look: what becomes idle meanwhile is seen by it, or takes this back. The lock
        // of each activation orders the two.
        self.in_vain.store(true, Ordering::Relaxed);
        *until = Some(now + BELIEVED);
        self.count.fetch_add(1, Ordering::Relaxed);
        let found = look() > 0;
        if found {
            self.in_vain.store(false, Ordering::Relaxed);
        }
        found
    }

    /// An activation became idle: the next look is not in vain.
    pub(super) fn became_idle(&self) {
        self.in_vain.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_look_in_vain_is_believed_until_something_becomes_idle_or_for_a_moment() {
        let (search, now) = (Search::default(), Clock.now());
        let later = now + BELIEVED;

        let looks = [
            search.run(now, || 3),
            search.run(now, || 0),
            search.run(now, || unreachable!("it was in vain")),
        ];
        search.became_idle();
        let idle = search.run(now, || 1);
        let meanwhile = search.run(now, || {
            search.became_idle();
            0
        });
        let after = [search.run(now, || 0), search.run(later, || 2)];

        assert_eq!(looks, [true, false, false]);
        assert_eq!((idle, meanwhile), (true, false));
        assert_eq!(after, [false, true]);
        assert_eq!(search.count(), 6);
    }
}
