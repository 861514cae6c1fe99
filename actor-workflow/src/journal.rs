//! What a run did, append only: the entries and how they fold back into what the body is told.
//!
//! Everything here is pure. Not here: how entries are stored (`store/journal.rs`) and who writes
//! them (`saga/ledger.rs`).

mod entry;
mod replay;

pub use entry::{Ending, Entry, Outcome};
pub(crate) use entry::{decode_failure, encode_failure};
pub use replay::{CommandKind, Corrupt, Mismatch, Progress, Recall, Recorded, Replay};
