//! Sagas: workflows that journal their steps, so that they survive their node.
//!
//! A [`Workflow`] is a recipe, an ordinary async function; a *saga* is a run of it: an actor that
//! writes down the outcome of each step before the next begins. After a crash the recipe runs again
//! from the top, and every step that was written down is told its outcome instead of being done
//! again.
//!
//! Read in this order: the guide ([`docs::first_saga`]), what a user writes ([`workflow`],
//! [`saga`]), how it is started and asked ([`client`]), what operators see ([`overview`]), and
//! below that the [`journal`] and its tables ([`store`]).

pub mod docs;

pub mod saga;
pub mod workflow;

pub mod client;
pub mod overview;

pub mod journal;
pub mod store;

#[doc(hidden)]
pub mod __private;

pub use actor_core_macros::Workflow;
pub use client::{SagaClient, SagaError, SagaRef};
pub use saga::{Saga, State, Step, StepKey};
pub use workflow::{Run, Workflow};
