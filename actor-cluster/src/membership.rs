//! How a node stays a member: the lease, judged by the node's own clock (architecture D1).
//!
//! [`step`] decides, the task in `membership/task.rs` acts. Not here: the row in SQL
//! ([`actor_core::store::nodes`]) and which shards a member takes ([`crate::shard`]).

pub(crate) mod drain;
mod handoff;
mod pace;
mod regain;
mod renewal;
mod sightings;
pub(crate) mod task;
mod watch;

use std::{fmt, time::Duration};

use actor_core::clock::Instant;

/// How long a handler may run on in a shard that moves: as long as a call's default time-out.
const HANDOFF_WITHIN: Duration = Duration::from_secs(5);

/// The lengths of a lease's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the row says the lease holds after a renewal. Default 10 s.
    pub ttl: Duration,
}

impl Terms {
    /// Returns the time between renewals: a third of the lease, so that two may fail.
    pub fn renew_every(self) -> Duration {
        self.ttl / 3
    }

    /// Returns how long a renewal counts for its holder: less than for everybody else, by a margin
    /// for the drift between this node's clock and the database's.
    pub fn held(self) -> Duration {
        self.ttl - self.ttl / 10
    }

    /// Returns the time between two looks at who is there and who owns what.
    pub fn balance_every(self) -> Duration {
        self.ttl / 10
    }

    /// Returns how many of its own shards a node hands over in the time between two looks: 16 a
    /// second (architecture D4), so that a cluster that grows goes on serving.
    pub fn moves_max(self) -> usize {
        ((self.balance_every().as_secs_f64() * 16.0) as usize).max(1)
    }

    /// Returns how long what runs in a shard may go on before it is cut off and the shard moves.
    pub fn handoff_within(self) -> Duration {
        HANDOFF_WITHIN
    }

    /// Returns the pause after a renewal that failed.
    pub fn retry_after(self) -> Duration {
        self.ttl / 20
    }
}

/// What a member knows of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It holds.
    Held {
        /// When it ends for this node.
        until: Instant,
        /// When it is renewed next.
        renew_at: Instant,
        /// Whether a renewal is under way.
        asking: bool,
    },
    /// It is gone, for good: the next life gets a new incarnation.
    Lost(Loss),
}

/// Why a lease is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No renewal was answered in time.
    Expired,
    /// Nobody can dial it any more: the port of its links is lost.
    Unreachable,
    /// The row says so: it expired there, was tombstoned, or names a later life of the node.
    Deposed,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the lease could not be renewed in time",
            Self::Unreachable => "the port of its links is lost",
            Self::Deposed => "the lease was taken away",
        })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The renewal sent at this time was stored.
    Renewed {
        /// Read before the renewal was sent.
        sent: Instant,
    },
    /// The renewal found no lease to renew.
    Refused,
    /// The renewal failed, or nobody knows whether it was stored.
    Failed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before [`Lease::wake_at`].
    Wait,
    /// Send a renewal.
    Renew,
    /// Let replies leave until then.
    Extend(Instant),
    /// Stop serving at once: somebody else may own everything.
    DropEverything(Loss),
}

impl Lease {
    /// Returns the lease of a node whose registration was sent at this time.
    pub fn registered(sent: Instant, terms: Terms) -> Self {
        Self::Held {
            until: sent + terms.held(),
            renew_at: sent + terms.renew_every(),
            asking: false,
        }
    }

    /// Returns when [`step`] must see the next [`Event::Tick`]; `None` when it is lost.
    pub fn wake_at(self) -> Option<Instant> {
        match self {
            Self::Held {
                until,
                asking: true,
                ..
            } => Some(until),
            Self::Held {
                until,
                renew_at,
                asking: false,
            } => Some(renew_at.min(until)),
            Self::Lost(_) => None,
        }
    }
}

/// Decides what a member does next.
///
/// Invariant: a lease that was not renewed by `until` is lost whatever the database answers later,
/// because the answer may have been on its way for longer than the lease lasts.
pub fn step(lease: Lease, event: Event, now: Instant, terms: Terms) -> (Lease, Action) {
    let Lease::Held {
        until,
        renew_at,
        asking,
    } = lease
    else {
        return (lease, Action::Wait);
    };
    let lost = |loss| (Lease::Lost(loss), Action::DropEverything(loss));
    if event == Event::Refused {
        return lost(Loss::Deposed);
    }
    if now >= until {
        return lost(Loss::Expired);
    }
    match event {
        Event::Tick if !asking && now >= renew_at => (
            Lease::Held {
                until,
                renew_at,
                asking: true,
            },
            Action::Renew,
        ),
        Event::Tick | Event::Refused => (lease, Action::Wait),
        Event::Renewed { sent } => {
            let until = until.max(sent + terms.held());
            let renew_at = sent + terms.renew_every();
            (
                Lease::Held {
                    until,
                    renew_at,
                    asking: false,
                },
                Action::Extend(until),
            )
        }
        Event::Failed => {
            let renew_at = now + terms.retry_after();
            (
                Lease::Held {
                    until,
                    renew_at,
                    asking: false,
                },
                Action::Wait,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Clock;

    use super::*;

    const TERMS: Terms = Terms {
        ttl: Duration::from_secs(10),
    };

    fn seconds(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    fn held(start: Instant, until: f64, renew_at: f64, asking: bool) -> Lease {
        let (until, renew_at) = (seconds(start, until), seconds(start, renew_at));
        Lease::Held {
            until,
            renew_at,
            asking,
        }
    }

    #[test]
    fn the_lease_table() {
        let start = Clock.now();
        let at = |time| seconds(start, time);
        let fresh = held(start, 9.0, 3.0, false);
        let asking = held(start, 9.0, 3.0, true);
        let again = held(start, 9.0, 4.5, false);
        let renewed = held(start, 12.0, 3.0 + 10.0 / 3.0, false);
        let lost = |loss| (Lease::Lost(loss), Action::DropEverything(loss));
        let gone = Lease::Lost(Loss::Expired);
        let answer = |sent| Event::Renewed { sent: at(sent) };
        let table = [
            ("early", fresh, Event::Tick, 2.0, (fresh, Action::Wait)),
            ("due", fresh, Event::Tick, 3.0, (asking, Action::Renew)),
            (
                "asked already",
                asking,
                Event::Tick,
                4.0,
                (asking, Action::Wait),
            ),
            // The new lease is counted from before its renewal was sent.
            (
                "renewed",
                asking,
                answer(3.0),
                4.0,
                (renewed, Action::Extend(at(12.0))),
            ),
            ("failed", asking, Event::Failed, 4.0, (again, Action::Wait)),
            (
                "no answer in time",
                asking,
                Event::Tick,
                9.0,
                lost(Loss::Expired),
            ),
            (
                "the answer came too late",
                asking,
                answer(3.0),
                9.0,
                lost(Loss::Expired),
            ),
            ("deposed", asking, Event::Refused, 4.0, lost(Loss::Deposed)),
            ("lost is lost", gone, answer(9.0), 9.5, (gone, Action::Wait)),
        ];
        for (claim, lease, event, now, (then, action)) in table {
            let (lease, acted) = step(lease, event, at(now), TERMS);
            assert!(close(lease, then), "{claim}: {lease:?}, expected {then:?}");
            assert_eq!(acted, action, "{claim}");
        }
    }

    /// Thirds of ten seconds are not exact.
    fn close(one: Lease, other: Lease) -> bool {
        let near = |a: Instant, b: Instant| a.max(b) - a.min(b) < Duration::from_micros(1);
        match (one, other) {
            (
                Lease::Held {
                    until,
                    renew_at,
                    asking,
                },
                Lease::Held {
                    until: then,
                    renew_at: renew_then,
                    asking: asking_then,
                },
            ) => near(until, then) && near(renew_at, renew_then) && asking == asking_then,
            _ => one == other,
        }
    }

    #[test]
    fn a_lease_ends_for_its_holder_before_it_ends_for_everybody_else() {
        assert!(TERMS.held() < TERMS.ttl);
    }

    #[test]
    fn two_renewals_may_fail() {
        let start = Clock.now();
        let mut lease = Lease::registered(start, TERMS);
        for _ in 0..2 {
            let now = lease.wake_at().expect("held");
            let (asking, action) = step(lease, Event::Tick, now, TERMS);
            assert_eq!(action, Action::Renew);
            lease = step(asking, Event::Failed, now, TERMS).0;
        }
        let now = lease.wake_at().expect("held");

        assert_eq!(step(lease, Event::Tick, now, TERMS).1, Action::Renew);
    }
}
