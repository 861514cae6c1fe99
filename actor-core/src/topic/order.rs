//! The order of one topic's events on their way to the listeners of a node.
//!
//! Events come from several lanes of this node and over links, so one may overtake another, and one
//! may get lost. What comes early is kept for its turn; what does not come is read from the history
//! (`gaps`). Not here: who listens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Position, TopicEvent};
use crate::clock::Instant;

/// How long an event may be missing before it is read from the history.
///
/// Two nodes that publish on one topic overtake each other all the time, by what a lane takes to
/// tell its verdicts and a note to travel: a few milliseconds. That must not cost a read each time.
/// Nobody who waits for an event that was really lost feels a tenth of a second; and a busy topic
/// costs ten reads a second at most, whatever its events do on their way.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// Events that are kept for their turn, at most: the latest of more are left to the history.
///
/// Half of a listener's queue: what is told at once when the missing one comes cuts nobody off who
/// kept up.
pub(super) const EARLY_MAX: usize = super::SUBSCRIBER_QUEUE / 2;

/// When an event is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Never: it was told.
    Past,
    /// Now.
    Now,
    /// After others, or once it is known where the listeners stand.
    Later,
}

/// How far the events of one topic were told, and what came early.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Where the topic stood when telling began; none until a listener has read it.
    began: Option<Position>,
    /// The last event that was told, or where telling began.
    told: Position,
    /// The greatest place that somebody said is taken.
    heard: Option<Position>,
    early: BTreeMap<Position, Arc<TopicEvent>>,
    /// Since when the next event has been missing.
    missing: Option<Instant>,
}

impl Order {
    /// Takes note of a listener that read the topic stand at `at`; telling begins there with the
    /// first one. Says whether all later events reach this listener: not those that were left out
    /// because another listener had read a later place.
    pub(super) fn begin(&mut self, at: Position, now: Instant) -> bool {
        let Some(began) = self.began else {
            (self.began, self.told) = (Some(at), at);
            self.early.retain(|place, _| !at.covers(*place));
            self.note_missing(now);
            return true;
        };
        self.hear(at, now);
        began.epoch == 0 || began.epoch == at.epoch && began.offset <= at.offset
    }

    /// Returns the last event that was told; none while no listener knows where the topic stands.
    pub(super) fn told(&self) -> Option<Position> {
        self.began.map(|_| self.told)
    }

    /// Decides when an event is told that just came. One whose turn is now counts as told.
    pub(super) fn arrive(&mut self, event: &Arc<TopicEvent>, now: Instant) -> Turn {
        let place = event.position;
        if self.began.is_some() {
            if self.told.covers(place) {
                return Turn::Past;
            }
            if self.told.precedes(place) {
                self.tell(place, now);
                return Turn::Now;
            }
        }
        self.early.insert(place, event.clone());
        if self.early.len() > EARLY_MAX {
            self.early.pop_last();
        }
        self.hear(place, now);
        Turn::Later
    }

    /// Says whether events came early and wait for their turn.
    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Returns an event that came early and whose turn is now; it counts as told.
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<TopicEvent>> {
        self.began?;
        let place = match self.told {
            // The topic had no events yet: the numbering is whatever the first one has.
            Position { epoch: 0, .. } => *self.early.first_key_value()?.0,
            Position { epoch, offset } => Position {
                epoch,
                offset: offset + 1,
            },
        };
        if !self.told.precedes(place) {
            return None;
        }
        let event = self.early.get(&place).cloned()?;
        self.tell(place, now);
        Some(event)
    }

    /// Takes note that the topic has an event at `place`, whether it comes by itself or not.
    pub(super) fn hear(&mut self, place: Position, now: Instant) {
        if !self.heard.is_some_and(|heard| heard.covers(place)) {
            self.heard = Some(place);
        }
        self.note_missing(now);
    }

    /// Takes note that everything up to `end` was read and told: what is of another numbering is
    /// forgotten.
    pub(super) fn recalled(&mut self, end: Position, now: Instant) {
        self.early.retain(|place, _| place.epoch == end.epoch);
        self.heard = self.heard.filter(|heard| heard.epoch == end.epoch);
        self.postpone(now);
    }

    /// Begins to wait anew for what is missing.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.missing = None;
        self.note_missing(now);
    }

    /// Returns when the missing event is to be read from the history; none if none is missing.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.missing.map(|since| since + LATE)
    }

    fn tell(&mut self, place: Position, now: Instant) {
        self.told = place;
        self.early.remove(&place);
        // Another event is missing now, if one is: it has its own time.
        if self.missing.is_some() {
            self.postpone(now);
        }
    }

    fn note_missing(&mut self, now: Instant) {
        let ahead = |heard: Position| !self.told.covers(heard);
        self.missing = match self.missing {
            _ if self.began.is_none() || !self.heard.is_some_and(ahead) => None,
            since => since.or(Some(now)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Turn::*, *};
    use crate::clock::Clock;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch, offset }
    }

    fn event(position: Position) -> Arc<TopicEvent> {
        Arc::new(TopicEvent {
            topic: "t".into(),
            position,
            name: "said".into(),
            data: Arc::default(),
        })
    }

    /// Returns the order of a topic that a listener read stand at `position`.
    fn begun(position: Position) -> Order {
        let mut order = Order::default();
        assert!(order.begin(position, Clock.now()));
        order
    }

    /// Lets an event arrive; returns the offsets that are told then.
    fn told(order: &mut Order, position: Position) -> Vec<u64> {
        let now = Clock.now();
        let turn = order.arrive(&event(position), now);
        let first = (turn == Now).then_some(position.offset);
        let rest = std::iter::from_fn(|| order.next(now)).map(|event| event.position.offset);
        first.into_iter().chain(rest).collect()
    }

    #[test]
    fn an_event_is_told_after_all_before_it_and_once() {
        let mut order = begun(at(7, 3));

        assert_eq!(told(&mut order, at(7, 2)), [0; 0], "before it began");
        assert_eq!(told(&mut order, at(7, 4)), [4]);
        assert_eq!(told(&mut order, at(7, 4)), [0; 0], "again");
        assert_eq!(told(&mut order, at(7, 7)), [0; 0]);
        assert_eq!(told(&mut order, at(7, 6)), [0; 0]);
        assert!(order.late_at().is_some());
        assert_eq!(told(&mut order, at(7, 5)), [5, 6, 7]);
        assert_eq!(order.late_at(), None);
    }

    #[test]
    fn what_comes_before_anybody_knows_where_the_topic_stands_waits_for_that() {
        let mut order = Order::default();
        for offset in [2, 4, 3] {
            assert_eq!(told(&mut order, at(7, offset)), [0; 0]);
        }
        assert_eq!((order.told(), order.late_at()), (None, None));

        order.begin(at(7, 2), Clock.now());

        let rest = std::iter::from_fn(|| order.next(Clock.now()));
        let rest: Vec<_> = rest.map(|event| event.position.offset).collect();
        assert_eq!(rest, [3, 4]);
        assert_eq!(order.late_at(), None);
    }

    #[test]
    fn a_topic_without_history_begins_with_whatever_numbering_comes() {
        let mut order = begun(at(0, 0));

        assert_eq!(told(&mut order, at(7, 2)), [0; 0]);
        assert_eq!(told(&mut order, at(7, 1)), [1, 2]);
        assert_eq!(order.told(), Some(at(7, 2)));
    }

    #[test]
    fn a_listener_that_read_an_earlier_place_than_the_first_one_is_told_so() {
        let table = [
            // Telling began at, this listener read, it gets all that is later.
            (at(7, 5), at(7, 5), true),
            (at(7, 5), at(7, 6), true),
            (at(7, 5), at(7, 4), false),
            (at(7, 5), at(0, 0), false),
            (at(7, 5), at(8, 9), false),
            (at(0, 0), at(7, 2), true),
        ];
        for (began, read, complete) in table {
            let mut order = begun(began);
            assert_eq!(
                order.begin(read, Clock.now()),
                complete,
                "{began:?} {read:?}"
            );
        }
    }

    #[test]
    fn each_missing_event_has_its_own_time() {
        let (mut order, start) = (begun(at(7, 0)), Clock.now());
        order.arrive(&event(at(7, 3)), start);
        order.arrive(&event(at(7, 5)), start + LATE);
        assert_eq!(order.late_at(), Some(start + LATE));

        order.arrive(&event(at(7, 1)), start + LATE);

        assert_eq!(order.late_at(), Some(start + 2 * LATE));
    }

    #[test]
    fn what_is_heard_of_is_missing_until_it_was_told() {
        let (mut order, now) = (begun(at(7, 3)), Clock.now());
        order.hear(at(7, 3), now);
        assert_eq!(order.late_at(), None);
        order.hear(at(7, 5), now);
        assert_eq!(order.late_at(), Some(now + LATE));

        assert_eq!(told(&mut order, at(7, 4)), [4]);
        assert!(order.late_at().is_some());
        assert_eq!(told(&mut order, at(7, 5)), [5]);

        assert_eq!(order.late_at(), None);
    }

    #[test]
    fn another_numbering_is_never_told_and_forgotten_when_the_history_knows_nothing_of_it() {
        let mut order = begun(at(7, 3));
        for offset in 1..=4 {
            assert_eq!(told(&mut order, at(6, offset)), [0; 0]);
        }
        assert!(order.late_at().is_some());
        assert_eq!(told(&mut order, at(7, 5)), [0; 0]);
        assert_eq!(told(&mut order, at(7, 4)), [4, 5]);

        order.recalled(at(7, 5), Clock.now());

        assert_eq!((order.late_at(), order.early.len()), (None, 0));
        assert_eq!(told(&mut order, at(7, 6)), [6]);
    }

    #[test]
    fn what_comes_early_is_bounded_and_what_was_let_go_stays_missing() {
        let mut order = begun(at(7, 0));
        let most = EARLY_MAX as u64;
        for offset in (2..=3 * most).rev() {
            told(&mut order, at(7, offset));
        }

        let expected: Vec<_> = (1..=most + 1).collect();
        assert_eq!(told(&mut order, at(7, 1)), expected);
        assert!(order.late_at().is_some());
    }
}
