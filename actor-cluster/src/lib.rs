//! Nodes, and which of them owns what.
//!
//! Read in this order: a node and its settings ([`node`]), how it stays a member ([`membership`]),
//! which shards it should own ([`shard`]), and whole clusters on virtual time (`sim`).
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `sim` | off | the simulator, for tests |

pub mod membership;
pub mod node;
pub mod shard;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(feature = "sim")]
pub mod docs;

pub use node::{Node, NodeBuilder, Settings, StartError};
