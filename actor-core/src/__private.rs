//! What the macros' output names. Not for use by hand; it may change at any time.

pub use std::{convert::Infallible, time::Duration};

pub use serde;

pub use crate::{
    codec::{Codec, CodecError},
    component::{Component, Registry},
    context::Ctx,
    entity::{
        Call, Durable, Encoded, Entity, EntityOptions, EntityRef, EventHandler, Handlers, Method,
        On, Takeover,
    },
    event::Event,
};

/// A handler's result, whatever alias it is written with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` but is not one",
    note = "a return type named `Result` must be `std::result::Result` or an alias of it"
)]
pub trait Outcome {
    /// The value.
    type Ok;
    /// The error.
    type Err;

    /// Returns it as the standard `Result`.
    ///
    /// # Errors
    /// The handler's error.
    fn into_result(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> Outcome for Result<T, E> {
    type Ok = T;
    type Err = E;

    fn into_result(self) -> Result<T, E> {
        self
    }
}

/// Adds an entity kind to the registry.
pub fn install_entity<K: Handlers>(registry: &mut Registry) {
    registry.add::<K>(std::sync::Arc::new(
        crate::entity::directory::Directory::<K>::new(),
    ));
}
