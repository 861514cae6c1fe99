//! Entities: addressable actors `(kind, id)` with typed methods.
//!
//! `#[derive(Entity)]` says what a type is ([`Entity`]), `#[handlers]` what it does ([`Handlers`]).
//! Both emit data and calls only; the behaviour lives below this module.

mod call;
pub(crate) mod delivery;
pub(crate) mod directory;
pub(crate) mod slot;

mod books;
mod host;
mod in_flight;
mod sending;

mod commit;
mod load;
mod snapshot;
mod verdict;

use std::{fmt, future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

pub use call::{Call, CallFuture, EntityRef, Pick};
pub(crate) use load::ATTEMPTS_MAX;

use crate::{
    codec::{Codec, CodecError},
    context::Ctx,
    event::Event,
    groups::DEFAULT_GROUP,
};

/// The largest stored state, reply or argument object, in bytes; more ends as `TooLarge`.
pub const STATE_BYTES_MAX: usize = 1024 * 1024;

/// A type whose values are entities. Implement it with `#[derive(Entity)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entity",
    note = "write `#[derive(Entity)]` on the struct"
)]
pub trait Entity: Sized + Send + Sync + 'static {
    /// The stable wire name.
    const KIND: &'static str;
    /// What the derive's attribute says.
    const OPTIONS: EntityOptions;
    /// The name of its group of shards: nodes that host no kind of a group own none of its shards.
    const GROUP: &'static str = DEFAULT_GROUP;
    /// How to store the state; `None` for a volatile entity.
    const DURABLE: Option<Durable<Self>>;

    /// Makes the state of an entity that was never stored.
    fn create() -> Self;
}

/// What `#[entity(...)]` sets.
#[derive(Clone, Copy, Debug)]
pub struct EntityOptions {
    /// Idle time after which an entity leaves memory; default 10 min, at least 1 s.
    pub passivate: Duration,
    /// The most messages running and queued; default 4096, at least 1. Over it calls end as
    /// `Overloaded`.
    pub mailbox: usize,
    /// Whether HTTP and WebSocket clients may call it; default no.
    pub exposed: bool,
    /// How long the outcome of a keyed call is remembered; default 24 h.
    pub key_retention: Duration,
    /// When a new owner may begin; default at once.
    pub takeover: Takeover,
}

/// When the new owner of a shard may activate the entities of a kind, if the former one was
/// declared dead before its lease was over and may live, without knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// At once. Handlers of the former owner may still run and do things outside, for a third of a
    /// lease at most; what they would store is refused.
    Early,
    /// When the former owner's lease is over, so that handlers of one entity never run at two nodes
    /// at the same time. Calls wait until then, and so do stored messages.
    Lease,
}

impl EntityOptions {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        passivate: Duration::from_secs(600),
        mailbox: 4096,
        exposed: false,
        key_retention: Duration::from_secs(24 * 3600),
        takeover: Takeover::Early,
    };
}

/// How a durable entity's state is stored.
pub struct Durable<T> {
    /// The version of the state's shape; raised for every change that is not an added top-level
    /// field.
    pub version: u32,
    /// Writes the state.
    pub save: fn(&T) -> Result<Vec<u8>, CodecError>,
    /// Reads the state.
    pub load: fn(&[u8]) -> Result<T, CodecError>,
}

impl<T: Serialize + DeserializeOwned> Durable<T> {
    /// Stores the state as MessagePack with named fields.
    pub const fn msgpack(version: u32) -> Self {
        Self {
            version,
            save: |state| Codec::Msgpack.encode(state),
            load: |bytes| Codec::Msgpack.decode(bytes),
        }
    }
}

impl<T> fmt::Debug for Durable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable(version {})", self.version)
    }
}

/// What an entity does. Implement it with `#[handlers]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers",
    note = "write `#[handlers]` on its `impl` block"
)]
pub trait Handlers: Entity {
    /// The typed reference that callers hold.
    type Ref: From<EntityRef<Self>>;
    /// The arguments of a call: one variant per method.
    type Args: Send + 'static;
    /// The outcome of a call: one variant per method, each a `Result`.
    type Outcome: Send + 'static;
    /// The methods, in the order of the variants.
    const METHODS: &'static [Method];
    /// The events it receives.
    const EVENTS: &'static [EventHandler];

    /// Returns the index in [`Handlers::METHODS`] that these arguments belong to.
    fn method(args: &Self::Args) -> usize;
    /// Runs the method.
    fn handle(
        &mut self,
        args: Self::Args,
        ctx: &mut Ctx<Self>,
    ) -> impl Future<Output = Self::Outcome> + Send;
    /// Writes arguments as an object of named arguments.
    ///
    /// # Errors
    /// When an argument's `Serialize` fails.
    fn encode_args(args: &Self::Args, codec: Codec) -> Result<Vec<u8>, CodecError>;
    /// Reads the arguments of the method at `method`.
    ///
    /// # Errors
    /// When the bytes are not an object of exactly this method's arguments.
    fn decode_args(method: usize, codec: Codec, bytes: &[u8]) -> Result<Self::Args, CodecError>;
    /// Writes an outcome.
    ///
    /// # Errors
    /// When the value's `Serialize` fails.
    fn encode_outcome(outcome: &Self::Outcome, codec: Codec) -> Result<Encoded, CodecError>;
    /// Reads an outcome of the method at `method`.
    ///
    /// # Errors
    /// When the bytes are not the method's value or error type.
    fn decode_outcome(
        method: usize,
        codec: Codec,
        encoded: &Encoded,
    ) -> Result<Self::Outcome, CodecError>;
    /// Says whether the outcome is the handler's `Ok`.
    fn is_ok(outcome: &Self::Outcome) -> bool;
}

/// One method of a kind, for dispatch and for people.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The wire name; `on:` and the event's name for an event handler.
    pub name: &'static str,
    /// The names of the arguments, `ctx` left out.
    pub args: &'static [&'static str],
    /// Whether it takes `&mut self`.
    pub writes: bool,
    /// Whether doing it twice is as good as doing it once (`#[idempotent]`).
    pub idempotent: bool,
    /// Whether it is a plain `fn`, which may run ahead of its entity's commits (architecture D6).
    pub runs_ahead: bool,
    /// Whether it is called by name (`pub`), not an event handler.
    pub callable: bool,
    /// The documentation of the method.
    pub docs: &'static str,
}

/// One `#[on]` method: the event it receives and the method that handles it.
#[derive(Clone, Copy, Debug)]
pub struct EventHandler {
    /// The event's stable name.
    pub event: &'static str,
    /// The index in [`Handlers::METHODS`].
    pub method: usize,
}

impl EventHandler {
    /// Returns the wire name of the method that receives an event.
    pub(crate) fn method_name(event: &str) -> String {
        format!("on:{event}")
    }
}

/// An outcome in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Whether the bytes are the handler's value; otherwise its error.
    pub ok: bool,
    /// The value or error.
    pub bytes: Vec<u8>,
}

/// Receives an event. Implement it with a method marked `#[on]`.
pub trait On<E: Event>: Entity {}
