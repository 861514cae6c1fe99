//! The guide, compiled.

#[doc = include_str!("docs/first_saga.md")]
pub mod first_saga {}
