//! What the outside sees of a run.

use std::{fmt, sync::Arc};

use actor_core::Failure;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Its body runs, or is about to.
    Running,
    /// It waits for a time; nothing of it is in memory.
    Suspended,
    /// Its steps are being undone.
    Compensating,
    /// An operator paused it.
    Paused,
    /// It cannot go on by itself: the reason says why. An operator may resume it.
    Stuck,
    /// Its body returned a value.
    Completed,
    /// Its body returned a failure; its steps are undone.
    Failed,
    /// It was cancelled; its steps are undone.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Suspended,
        Self::Compensating,
        Self::Paused,
        Self::Stuck,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns the stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Compensating => "compensating",
            Self::Paused => "paused",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Says whether the run is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of a run and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// The output, in MessagePack.
    pub(crate) result: Option<Arc<[u8]>>,
    pub(crate) error: Option<Failure>,
    pub(crate) reason: Option<Arc<str>>,
}

impl Status {
    /// Returns a status without result, error and reason.
    pub(crate) fn of(state: State) -> Self {
        Self {
            state,
            result: None,
            error: None,
            reason: None,
        }
    }

    /// Returns a status with this reason.
    pub(crate) fn because(state: State, reason: impl AsRef<str>) -> Self {
        Self {
            reason: Some(reason.as_ref().into()),
            ..Self::of(state)
        }
    }
}
