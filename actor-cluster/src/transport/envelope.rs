//! What crosses a link: requests, their answers, and notes. The simulator carries the same.
//!
//! Not here: their bytes (`wire`), and what a frame adds to them.

use std::{sync::Arc, time::Duration};

use actor_core::{
    RequestContext,
    client::Invocation,
    codec::CodecError,
    context::Waiter,
    entity::Encoded,
    error::Refusal,
    id::{EntityId, Epoch, Incarnation, NodeId, ShardId},
    mailbox::Effect,
    topic::{Position, TopicEvent},
};

use super::wire;

/// What a node asks of another.
#[derive(Clone, Debug)]
pub enum Request {
    /// Make this call.
    Invoke(Call),
    /// Store this message or event.
    Commit(Effect),
    /// Say what you are doing, for operators.
    Report,
}

/// A call to an entity or a saga of another node.
#[derive(Clone, Debug)]
pub struct Call {
    /// The call. Its time-out does not cross the link: what is left of it when the envelope leaves
    /// does.
    pub invocation: Invocation,
    /// The epoch under which the sender believes that the receiver owns the target's shard.
    pub epoch: Option<Epoch>,
    /// The request it belongs to.
    pub request: Option<Arc<RequestContext>>,
    /// The entities that wait for it, the nearest first.
    pub chain: Arc<[Waiter]>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The handler's value or error.
    Outcome(Encoded),
    /// Where the message or event is stored.
    Stored(Position),
    /// Somebody else owns the shard; nothing was done.
    NotOwner {
        /// Who owns it, as far as the answering node knows.
        owner: Option<OwnerHint>,
    },
    /// It failed.
    Refused(Refusal),
    /// What the node is doing: [`Report`](crate::node::operations::Report) as JSON.
    Report(Vec<u8>),
}

/// Who owns a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerHint {
    /// The owner's name.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// What a node is told without being asked. A lost note costs time, never work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A stored message waits for an entity of yours.
    Due {
        /// The entity's shard.
        shard: ShardId,
        /// Its kind.
        kind: Arc<str>,
        /// Its id.
        id: EntityId,
        /// How long until it may run; zero means now.
        due_in: Duration,
    },
    /// An event was announced on a topic that somebody listens to at your node.
    Event(TopicEvent),
    /// I own these shards now, under these epochs.
    Took(Vec<(ShardId, Epoch)>),
    /// I gave shards up, or leave: look who should have them.
    Released,
}

impl Request {
    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_request(self)
    }

    /// Reads it; a call's time-out becomes `within`.
    ///
    /// # Errors
    /// When the bytes are not a request.
    pub fn decode(bytes: &[u8], within: Duration) -> Result<Self, CodecError> {
        wire::decode_request(bytes, within)
    }
}

impl Answer {
    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_answer(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        wire::decode_answer(bytes)
    }
}

impl Note {
    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_note(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not a note.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        wire::decode_note(bytes)
    }
}
