//! What a node saw of the leases of others, by its own clock.
//!
//! The database's clock may step, and a lease then seems to be over before its holder thinks so.
//! For durable state the fence is enough; a singleton waits for what was not seen to pass.

use std::collections::BTreeMap;

use actor_core::{
    clock::Instant,
    id::NodeId,
    store::{nodes::NodeRow, ownership::Seen},
};

/// When each node's lease was first seen to end when it ends now.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    leases: BTreeMap<NodeId, (i64, Instant)>,
    /// Whether a lease was seen that ends too far ahead.
    stepped: bool,
}

impl Sightings {
    /// Notes rows that were read by `now`; says whether this is the first time that one of them
    /// ends further ahead than any renewal can have written.
    pub(super) fn note(&mut self, rows: &[NodeRow], now: Instant) -> bool {
        let leases = rows.iter().map(|row| (&row.node, row.expires_at));
        self.see(leases, now);
        let stepped = rows.iter().any(|row| row.too_far);
        stepped && !std::mem::replace(&mut self.stepped, true)
    }

    fn see<'a>(&mut self, leases: impl Iterator<Item = (&'a NodeId, i64)>, now: Instant) {
        let before = std::mem::take(&mut self.leases);
        // Of one that was ended early nobody knows when it was renewed last.
        for (node, expires_at) in leases.filter(|(_, expires_at)| *expires_at > 0) {
            let known = before.get(node).filter(|(known, _)| *known == expires_at);
            let since = known.map_or(now, |(_, since)| *since);
            self.leases.insert(node.clone(), (expires_at, since));
        }
    }

    /// Returns for how long each lease has been as it was read last.
    pub(super) fn seen(&self, now: Instant) -> Seen {
        let mut seen = Seen::default();
        for (node, (expires_at, since)) in &self.leases {
            let unchanged = now.saturating_duration_since(*since);
            seen.add(node.clone(), *expires_at, unchanged);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actor_core::clock::Clock;

    use super::*;

    #[test]
    fn a_lease_is_seen_for_as_long_as_nobody_renews_or_ends_it() {
        let (start, second) = (Clock.now(), Duration::from_secs(1));
        let names = ["a", "b", "c"].map(NodeId::new);
        // When the leases of the three end, in each second.
        let read = [[70, 70, 70], [70, 73, 0], [70, 73, 0]];
        let mut sightings = Sightings::default();

        for (round, ends) in (0..).zip(read) {
            sightings.see(names.iter().zip(ends), start + round * second);
        }
        let seen = sightings.seen(start + 3 * second);

        let mut expected = Seen::default();
        expected.add(NodeId::new("a"), 70, 3 * second);
        expected.add(NodeId::new("b"), 73, 2 * second);
        assert_eq!(seen, expected);
    }
}
