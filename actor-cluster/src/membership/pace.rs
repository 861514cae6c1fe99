//! How fast a node gives shards away that another one should have (architecture D4).
//!
//! Looks at the rows do not set the pace: each release of anybody's wakes all others, and a
//! takeover must not wait. Not here: how shards are handed over (`handoff.rs`).

use std::time::Duration;

use actor_core::{
    clock::{Clock, Instant},
    id::ShardId,
};

use super::{Terms, task::Member};

/// When more shards may be given away.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<Instant>,
    /// Whether some have to wait until then.
    waits: bool,
}

impl Pace {
    /// Returns how many of so many shards may go now. Those take as long as their part of a
    /// round: the next ones go after that.
    fn allow(&mut self, wanted: usize, now: Instant, terms: Terms) -> usize {
        let most = terms.moves_max();
        let allowed = match self.next {
            Some(next) if now < next => 0,
            _ => wanted.min(most),
        };
        if allowed > 0 {
            let part = allowed as f64 / most as f64;
            self.next = Some(now + terms.balance_every().mul_f64(part));
        }
        self.waits = allowed < wanted;
        allowed
    }

    /// Returns how long to wait for the next look, at most `pause`.
    pub(super) fn pause(&self, pause: Duration, now: Instant) -> Duration {
        match self.next {
            Some(next) if self.waits && next > now => pause.min(next - now),
            _ => pause,
        }
    }
}

impl Member {
    /// Returns which shards begin to leave now, while none is leaving: as many of those that
    /// another node should have as the pace allows, and all whose handoff ended half-way.
    ///
    /// Invariant: what began to leave leaves, wherever it is wanted now. Nothing new begins in it,
    /// and only a new owner, be it this node, makes it serve again.
    pub(super) fn leavers(&self, mut wanted: Vec<ShardId>, pace: &mut Pace) -> Vec<ShardId> {
        if !self.balances() {
            return Vec::new(); // A drain gives everything away, at its own pace.
        }
        let shards = self.hosting.shards();
        let owned = shards.owned().into_iter().map(|(shard, _)| shard);
        let begun: Vec<_> = owned.filter(|shard| !shards.serves(*shard)).collect();
        wanted.retain(|shard| begun.binary_search(shard).is_err());
        if !self.rests() {
            wanted.truncate(pace.allow(wanted.len(), Clock.now(), self.terms));
        }
        wanted.extend(begun);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_given_away_at_a_time_and_a_part_of_it_takes_its_part_of_the_time() {
        let terms = Terms {
            ttl: Duration::from_secs(10),
        };
        let start = Clock.now();
        // At so many milliseconds, so many should go; so many may.
        let table = [
            (0, 40, 16),
            (20, 24, 0),
            (999, 24, 0),
            (1_000, 24, 16),
            (2_000, 4, 4),
            (2_200, 1, 0),
            (2_250, 1, 1),
            (9_000, 0, 0),
            (9_000, 1, 1),
        ];
        let mut pace = Pace::default();
        for (ms, wanted, allowed) in table {
            let now = start + Duration::from_millis(ms);
            assert_eq!(pace.allow(wanted, now, terms), allowed, "at {ms} ms");
        }
    }

    #[test]
    fn whoever_is_held_back_is_looked_at_when_its_time_comes() {
        let terms = Terms {
            ttl: Duration::from_secs(10),
        };
        let (start, second) = (Clock.now(), Duration::from_secs(1));
        let mut pace = Pace::default();
        assert_eq!(pace.pause(second, start), second);

        pace.allow(20, start, terms);
        let held_back = pace.pause(2 * second, start + second / 4);
        pace.allow(0, start + second / 2, terms);
        let nobody = pace.pause(2 * second, start + second / 2);

        assert_eq!(held_back, second * 3 / 4);
        assert_eq!(nobody, 2 * second);
    }
}
