//! What operators see of a node's part in its cluster: its links, and what changed lately.
//!
//! Not here: who is registered and who owns what; that is in the database, for every node to read.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use actor_core::store::{Store, ownership::Taken};
use serde::Serialize;

use crate::{singleton::SingletonStatus, transport::LinkSnapshot};

/// The most changes that are remembered; older ones are forgotten.
const CHANGES_MAX: usize = 64;

/// Changes of one sort this close together are shown as one, in milliseconds: a handoff releases
/// its shards one after another.
const TOGETHER_MS: i64 = 2_000;

/// A node's part in its cluster, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cluster {
    /// The links to and from other nodes; empty for a node that is alone.
    pub links: Vec<LinkSnapshot>,
    /// What changed lately, the newest first; 64 at most.
    pub changes: Vec<Change>,
    /// The singletons this node was built with, and what each does here, by name.
    pub singletons: Vec<SingletonStatus>,
    /// Messages that are due for long in shards that nobody owns; zero but at the sweeper's node.
    pub stuck_unowned: usize,
}

/// Something that happened to a node or that it noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// When, in milliseconds since 1970 by the database's clock; of several that are shown as one,
    /// the last.
    pub at_ms: i64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// This life of the node began.
    Joined {
        /// Which life it is.
        incarnation: u64,
    },
    /// The node took shards.
    Took {
        /// How many.
        shards: usize,
        /// How many of them had an owner that did not release them.
        orphans: usize,
    },
    /// The node gave shards up in order.
    GaveUp {
        /// How many.
        shards: usize,
    },
    /// Another node took shards this one thought to own.
    Lost {
        /// How many.
        shards: usize,
    },
    /// The node's lease ended; it serves nothing any more.
    LeaseLost {
        /// Why.
        why: String,
    },
    /// The database refused writes of this node: their shards were another node's already.
    Fenced {
        /// How many shards.
        shards: usize,
    },
    /// The node began to drain, to stop.
    Drains,
    /// An operator drained the node: it gives its shards away and stays.
    Rests,
    /// A node that rested takes shards again.
    CalledBack,
    /// This node's testimony ended the lease of another one that was seen dead.
    DeclaredDead {
        /// Its name.
        node: String,
        /// Which life of it.
        incarnation: u64,
    },
    /// Another node is there.
    Came {
        /// Its name.
        node: String,
        /// Which life of it.
        incarnation: u64,
    },
    /// Another node is there no more.
    Went {
        /// Its name.
        node: String,
        /// Which life of it.
        incarnation: u64,
    },
}

impl What {
    /// Returns both as one, if they are of one sort and are counted.
    fn with(&self, next: &Self) -> Option<Self> {
        Some(match (self, next) {
            (
                Self::Took { shards, orphans },
                Self::Took {
                    shards: more,
                    orphans: more_orphans,
                },
            ) => Self::Took {
                shards: shards + more,
                orphans: orphans + more_orphans,
            },
            (Self::GaveUp { shards }, Self::GaveUp { shards: more }) => Self::GaveUp {
                shards: shards + more,
            },
            (Self::Lost { shards }, Self::Lost { shards: more }) => Self::Lost {
                shards: shards + more,
            },
            _ => return None,
        })
    }
}

/// Returns the change that these shards were taken.
pub(crate) fn took(taken: &[Taken]) -> What {
    What::Took {
        shards: taken.len(),
        orphans: taken.iter().filter(|taken| !taken.released).count(),
    }
}

/// Remembers the latest changes. Cheap to clone; clones share what they remember.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    store: Store,
    latest: Arc<Mutex<VecDeque<Change>>>,
}

impl Changes {
    pub(crate) fn new(store: Store) -> Self {
        let latest = Arc::default();
        Self { store, latest }
    }

    /// Remembers that this happened now.
    pub(crate) fn note(&self, what: What) {
        let at_ms = self.store.now_ms();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        remember(&mut latest, Change { at_ms, what });
    }

    /// Returns what is remembered, the newest first.
    pub(crate) fn latest(&self) -> Vec<Change> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().rev().cloned().collect()
    }
}

fn remember(latest: &mut VecDeque<Change>, change: Change) {
    if let Some(last) = latest.back_mut()
        && change.at_ms - last.at_ms <= TOGETHER_MS
        && let Some(both) = last.what.with(&change.what)
    {
        let at_ms = change.at_ms;
        *last = Change { at_ms, what: both };
        return;
    }
    if latest.len() == CHANGES_MAX {
        latest.pop_front();
    }
    latest.push_back(change);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gave_up(at_ms: i64, shards: usize) -> Change {
        let what = What::GaveUp { shards };
        Change { at_ms, what }
    }

    #[test]
    fn shards_that_go_together_are_one_change() {
        let mut latest = VecDeque::new();
        for change in [gave_up(0, 1), gave_up(1_500, 2), gave_up(3_000, 1)] {
            remember(&mut latest, change);
        }
        let drains = What::Drains;
        remember(
            &mut latest,
            Change {
                at_ms: 3_100,
                what: drains.clone(),
            },
        );
        remember(&mut latest, gave_up(3_200, 5));
        remember(&mut latest, gave_up(9_000, 6));

        let seen: Vec<_> = latest.into_iter().collect();
        let drains = Change {
            at_ms: 3_100,
            what: drains,
        };
        assert_eq!(
            seen,
            [
                gave_up(3_000, 4),
                drains,
                gave_up(3_200, 5),
                gave_up(9_000, 6)
            ]
        );
    }

    #[test]
    fn only_the_latest_changes_are_remembered() {
        let mut latest = VecDeque::new();
        for number in 0..100 {
            remember(&mut latest, gave_up(number * 10_000, 1));
        }

        assert_eq!(latest.len(), CHANGES_MAX);
        assert_eq!(latest.back(), Some(&gave_up(990_000, 1)));
    }
}
