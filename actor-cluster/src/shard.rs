//! Which shards a node should own.
//!
//! Placement is a pure function of the live nodes; ownership is the row
//! ([`actor_core::store::ownership`]).

pub mod candidates;
pub mod placement;
