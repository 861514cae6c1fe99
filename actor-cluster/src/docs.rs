//! The guide, compiled.

#[doc = include_str!("docs/getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("docs/entities.md")]
pub mod entities {}

#[doc = include_str!("docs/durable_state.md")]
pub mod durable_state {}
