//! The requests of a link that have no answer yet, and when to look for those whose time is over.

use std::{collections::BTreeMap, time::Duration};

use actor_core::clock::{Clock, Instant};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::Unanswered;

/// The least time between two looks: so much later than its deadline a request may end, or
/// [`LOOKS_SHARE`] times what a look takes, if that is more.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A look takes at most one part in so many of the time: callers wait for its lock, and those of a
/// peer that answers nothing leave many requests with as many deadlines.
const LOOKS_SHARE: u32 = 20;

/// How a request ends.
pub(super) type End = Result<Bytes, Unanswered>;

#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<u64, Request>,
    /// The last one that left; they leave in the order of their numbers.
    left: u64,
    /// When somebody must look: at the first deadline, or before it.
    look: Option<Instant>,
    /// No look is due before this.
    rest: Instant,
}

#[derive(Debug)]
struct Request {
    deadline: Instant,
    answer: oneshot::Sender<End>,
}

impl Requests {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            open: BTreeMap::new(),
            left: 0,
            look: None,
            rest: now,
        }
    }

    /// Adds one; says whether the next look must be sooner for it.
    pub(super) fn add(
        &mut self,
        number: u64,
        deadline: Instant,
        answer: oneshot::Sender<End>,
    ) -> bool {
        self.open.insert(number, Request { deadline, answer });
        let look = deadline.max(self.rest);
        let sooner = self.look.is_none_or(|next| look < next);
        if sooner {
            self.look = Some(look);
        }
        sooner
    }

    /// Notes that an envelope left; the numbers of notes do not count.
    pub(super) fn left(&mut self, number: u64) {
        self.left = self.left.max(number);
    }

    /// Takes one out; who takes it ends it.
    pub(super) fn remove(&mut self, number: u64) -> Option<oneshot::Sender<End>> {
        self.open.remove(&number).map(|request| request.answer)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = oneshot::Sender<End>> {
        let open = std::mem::take(&mut self.open).into_values();
        open.map(|request| request.answer)
    }

    /// Takes out those whose time is over, with how they end.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(oneshot::Sender<End>, Unanswered)> {
        let mut next: Option<Instant> = None;
        let late = self.open.extract_if(.., |_, request| {
            let late = request.deadline <= now;
            if !late {
                next = Some(next.map_or(request.deadline, |next| next.min(request.deadline)));
            }
            late
        });
        let left = self.left;
        let ends = late.map(|(number, request)| match number <= left {
            true => (request.answer, Unanswered::Late),
            false => (request.answer, Unanswered::Unsent),
        });
        let ends = ends.collect();
        let took = Clock.now().saturating_duration_since(now);
        self.rest = now + LOOK_EVERY.max(LOOKS_SHARE * took);
        self.look = next.map(|next| next.max(self.rest));
        ends
    }

    /// Returns when to look for those whose time is over; `None` as long as there is none.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_with_less_time_waits_for_no_more_than_a_rest() {
        let begin = Clock.now();
        let mut requests = Requests::new(begin);
        let add = |requests: &mut Requests, number, deadline| {
            requests.add(number, deadline, oneshot::channel().0)
        };

        assert!(add(&mut requests, 1, begin + 100 * MS), "the first");
        assert!(!add(&mut requests, 2, begin + 200 * MS), "later");
        assert!(add(&mut requests, 3, begin + 50 * MS), "sooner");
        assert_eq!(requests.next_look(), Some(begin + 50 * MS));

        assert_eq!(requests.expire(begin + 50 * MS).len(), 1);
        assert_eq!(requests.next_look(), Some(begin + 100 * MS));
        // However many come with no time at all, looks are a rest apart.
        assert!(add(&mut requests, 4, begin + 50 * MS));
        assert!(!add(&mut requests, 5, begin + 50 * MS));
        assert_eq!(requests.next_look(), Some(begin + 50 * MS + LOOK_EVERY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_late_one_says_whether_it_left() {
        let begin = Clock.now();
        let mut requests = Requests::new(begin);
        for number in 1..=3 {
            requests.add(number, begin + MS, oneshot::channel().0);
        }
        requests.left(2);
        requests.left(0);

        let ends = requests.expire(begin + MS).into_iter().map(|(_, end)| end);

        let wanted = [Unanswered::Late, Unanswered::Late, Unanswered::Unsent];
        assert!(ends.eq(wanted) && requests.is_empty());
        assert_eq!(requests.next_look(), None);
    }
}
