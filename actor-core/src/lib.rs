//! Core.

pub mod clock;
pub mod codec;
pub mod error;
pub mod id;
pub mod shards;
pub mod store;
