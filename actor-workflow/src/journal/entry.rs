//! The entries of a journal, as they are stored.
//!
//! Variants and fields are only ever added at the end: old journals are replayed by new programs.

use actor_core::{
    Failure,
    codec::{Codec, CodecError, decode_row, encode_row},
};

/// One entry of a run's journal.
///
/// A *position* counts what the body asked for (steps, timers, values) from 0; several entries may
/// belong to one position.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum Entry {
    /// An attempt at a step failed and another one follows.
    Attempt {
        /// The step's position.
        position: u32,
        /// The step's name.
        name: String,
        /// Which attempt it was, from 1.
        attempt: u32,
        /// The failure.
        error: Vec<u8>,
        /// The pause before the next attempt, counted from this entry.
        delay_ms: u64,
    },
    /// A step ended; it never runs again.
    Step {
        /// The step's position.
        position: u32,
        /// The step's name.
        name: String,
        /// How many attempts it took.
        attempts: u32,
        /// What the body is told.
        outcome: Outcome,
        /// Whether it must be undone if the run fails or is cancelled.
        undo: bool,
    },
    /// The run sleeps.
    Timer {
        /// The timer's position.
        position: u32,
        /// How long, counted from this entry.
        duration_ms: u64,
    },
    /// A value from outside: the time, a random number.
    Value {
        /// The value's position.
        position: u32,
        /// What it is.
        name: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Somebody asked to cancel the run.
    Cancel,
    /// It is decided how the run ends; from here on steps are only undone.
    End(Ending),
    /// A step was undone; that never runs again.
    Undone {
        /// The step's position.
        position: u32,
        /// The step's name.
        name: String,
        /// How many attempts it took in this life of the node.
        attempts: u32,
    },
    /// An operator paused the run.
    Paused,
    /// An operator let the run go on.
    Resumed,
}

/// How a step ended, in MessagePack.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Outcome {
    /// The step's value.
    Value(Vec<u8>),
    /// The step's failure.
    Failure(Vec<u8>),
}

/// How a run ends. Its result or failure is in the run's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Ending {
    /// The body returned a value.
    Completed,
    /// The body returned a failure.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Entry {
    /// Writes the entry as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        encode_row(self)
    }

    /// Reads a stored entry.
    ///
    /// # Errors
    /// When the bytes are not an entry this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode_row(bytes)
    }

    /// Returns the stable name of the kind of entry, for people.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Attempt { .. } => "attempt",
            Self::Step { .. } => "step",
            Self::Timer { .. } => "timer",
            Self::Value { .. } => "value",
            Self::Cancel => "cancel",
            Self::End(_) => "end",
            Self::Undone { .. } => "undone",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
        }
    }

    /// Returns the name the body gave it; empty if it has none.
    pub fn name(&self) -> &str {
        match self {
            Self::Attempt { name, .. }
            | Self::Step { name, .. }
            | Self::Value { name, .. }
            | Self::Undone { name, .. } => name,
            Self::End(Ending::Completed) => "completed",
            Self::End(Ending::Failed) => "failed",
            Self::End(Ending::Cancelled) => "cancelled",
            Self::Timer { .. } | Self::Cancel | Self::Paused | Self::Resumed => "",
        }
    }

    /// Returns about how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let payload = match self {
            Self::Attempt { error, .. } => error.len(),
            Self::Value { value, .. } => value.len(),
            Self::Step {
                outcome: Outcome::Value(bytes) | Outcome::Failure(bytes),
                ..
            } => bytes.len(),
            _ => 0,
        };
        payload + self.name().len() + 64
    }
}

/// Writes a failure as the journal keeps it.
pub(crate) fn encode_failure(failure: &Failure) -> Vec<u8> {
    let encoded = Codec::Msgpack.encode(failure);
    encoded.unwrap_or_else(|_| {
        // Only its data can be unwritable.
        let bare = Failure::new(&*failure.kind, &failure.message);
        Codec::Msgpack.encode(&bare).unwrap_or_default()
    })
}

/// Reads a failure from the journal.
pub(crate) fn decode_failure(bytes: &[u8]) -> Failure {
    Codec::Msgpack
        .decode(bytes)
        .unwrap_or_else(|error| Failure::new("unreadable", error))
}
