//! What the macros' output names. Not for use by hand; it may change at any time.

use std::sync::Arc;

pub use actor_core::{Component, Registry};

use crate::{saga::Sagas, workflow::Run};

/// Adds a workflow kind to the registry.
pub fn install<W: Run>(registry: &mut Registry) {
    registry.add::<W>(Arc::new(Sagas::of::<W>()));
}
