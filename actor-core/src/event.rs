//! Events: facts that are announced on a topic once what caused them is committed.

use serde::{Serialize, de::DeserializeOwned};

/// A fact to announce. Implement it with `#[derive(Event)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "write `#[derive(Event, Clone, Serialize, Deserialize)]` on the struct"
)]
pub trait Event: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The stable wire name.
    const NAME: &'static str;
    /// The topic it is announced on.
    const TOPIC: &'static str;

    /// Returns the id of the entities that receive it (`#[on]`), if the event names one.
    fn key(&self) -> Option<String>;
}
