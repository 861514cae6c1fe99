//! The tables `runs` and `journal`, and the one mailbox row that keeps a run going.
//!
//! Owners change rows through the committer lane, which fences them. The functions over a
//! connection read. Not here: when to store what (`saga/`).

pub mod journal;
pub mod mailbox;
pub mod runs;
