//! Nodes, and which of them owns what.
//!
//! The guide begins with [`docs::getting_started`]. Read in this order: a node and its settings
//! ([`node`]), how it stays a member ([`membership`]), which shards it should own ([`shard`]), what
//! runs once in the whole cluster ([`singleton`]), how nodes reach one another ([`transport`]), and
//! whole clusters on virtual time (`sim`).
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `sim` | off | the simulator, for tests |

pub mod docs;

pub mod membership;
pub mod node;
mod routing;
pub mod shard;
pub mod singleton;
mod snowflake;
mod sweeper;
pub mod transport;

#[cfg(feature = "sim")]
pub mod sim;

pub use node::{Node, NodeBuilder, Settings, StartError};
pub use singleton::Singleton;
