//! Entities: supervised actors with typed calls, bounded mailboxes and exactly-once durable state.
//!
//! Read in this order: what things are called ([`id`]), what a user writes ([`entity`], [`event`],
//! [`component`]), what a call carries ([`context`]) and how it can fail ([`error`]), who runs it
//! ([`hosting`]), and where it is kept ([`store`]).

pub mod error;
pub mod id;

pub mod component;
pub mod entity;
pub mod event;

pub mod client;
pub mod context;
pub mod mailbox;
pub mod recall;
pub mod topic;

mod caught;
pub mod hosting;
pub mod meter;
pub mod router;
mod supervise;
mod telemetry;
pub mod timers;
pub mod wheel;

pub mod groups;
pub mod shards;
pub mod store;

pub mod clock;
pub mod codec;
pub mod news;

#[doc(hidden)]
pub mod __private;

pub use actor_core_macros::{Entity, Event, handlers};
pub use client::{Client, Invocation};
pub use component::{Component, Registry};
pub use context::{Ctx, RequestContext};
pub use entity::{Call, Entity, EntityRef, Handlers, On};
pub use error::{CallError, Failure, Refusal, Result};
pub use event::Event;
pub use id::{EntityId, NodeId, ShardId};
