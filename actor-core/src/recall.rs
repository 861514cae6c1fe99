//! For how long the outcome of a message is remembered, so that a repeat of it counts once.

use std::time::Duration;

use crate::client::CALL_TIMEOUT_MAX;

/// How late a message may be repeated under its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recall {
    /// While its caller waits: the framework made the identity, and repeats the call itself.
    Brief,
    /// Long after: its caller made the identity, or its sender may run again in a later life.
    Long,
}

/// How long a brief memory lasts: twice the longest deadline, so that no repeat outlives it.
const BRIEF: Duration = Duration::from_secs(CALL_TIMEOUT_MAX.as_secs() * 2);

impl Recall {
    /// Returns how long an outcome is kept, by a kind that keeps those of keys for `key_retention`.
    pub(crate) fn keeps(self, key_retention: Duration) -> Duration {
        match self {
            Self::Brief => BRIEF,
            Self::Long => key_retention,
        }
    }
}
