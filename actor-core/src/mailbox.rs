//! Messages in a form that can be stored: durable casts, timers, what handlers send.
//!
//! Not here: their SQL (`store/mailbox.rs`) and the queue of an activation (`entity/slot.rs`).

use std::sync::Arc;

use crate::{
    codec::{Codec, CodecError},
    context::RequestContext,
    event::Event,
    id::{CallId, EntityId},
};

/// A message to an entity, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// The target's kind.
    pub kind: Arc<str>,
    /// The target's id.
    pub id: EntityId,
    /// The message's identity: stored once under it.
    pub message: CallId,
    /// The method.
    pub method: Arc<str>,
    /// How `args` are written.
    pub codec: Codec,
    /// The object of named arguments, or the event.
    pub args: Arc<[u8]>,
    /// The request it came from.
    pub request: Option<Arc<RequestContext>>,
    /// Database time before which it must not run, in ms since 1970.
    pub due_at: Option<i64>,
    /// Database time after which it is dropped, in ms since 1970.
    pub expires_at: Option<i64>,
    /// Whether its id was given by the caller, so that its outcome is remembered.
    pub keyed: bool,
}

/// A stored message and what the store knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MailboxRow {
    /// Its place in the mailbox.
    pub seq: i64,
    /// How often it failed, or began while its owner died.
    pub attempts: u32,
    /// The message.
    pub message: StoredMessage,
}

/// An announcement, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Where it is announced.
    pub topic: Arc<str>,
    /// The event's name.
    pub name: Arc<str>,
    /// The id of the entities that receive it.
    pub key: Option<String>,
    /// The event as JSON: topics are read by browsers.
    pub data: Arc<[u8]>,
}

impl Announcement {
    /// Writes an event.
    ///
    /// # Errors
    /// When the event has no JSON form.
    pub fn of<E: Event>(event: &E) -> Result<Self, CodecError> {
        Ok(Self {
            topic: E::TOPIC.into(),
            name: E::NAME.into(),
            key: event.key(),
            data: Codec::Json.encode(event)?.into(),
        })
    }
}

/// What a durable handler sends; it becomes rows of the message's own commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A message to an entity.
    Send(StoredMessage),
    /// An event.
    Announce(Announcement),
}
