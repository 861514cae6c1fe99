//! One message on its way through an activation, and whoever waits for its outcome.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Encoded, Handlers, STATE_BYTES_MAX};
use crate::{
    clock::Instant,
    codec::{Codec, CodecError},
    context::{RequestContext, Waiters},
    error::Refusal,
    id::CallId,
    recall::Recall,
};

/// What a typed caller receives.
pub(crate) type TypedReply<K> = Result<<K as Handlers>::Outcome, Refusal>;

/// Who waits for the outcome.
pub(crate) enum Reply<K: Handlers> {
    /// Nobody: a cast, or a stored message.
    Nobody,
    /// A caller of this process, without serialization.
    Typed(oneshot::Sender<TypedReply<K>>),
    /// A gateway or another node, in its codec.
    Wire(Codec, oneshot::Sender<Result<Encoded, Refusal>>),
    /// The same, with the outcome written down already.
    Written(Codec, Encoded, oneshot::Sender<Result<Encoded, Refusal>>),
}

/// Makes repeats of one call count once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) id: CallId,
    /// Of method and arguments, so that a reused key is noticed.
    pub(crate) hash: u64,
    /// How late it may be repeated.
    pub(crate) recall: Recall,
}

/// The mailbox row a message came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTag {
    pub(crate) message: CallId,
    pub(crate) seq: i64,
    pub(crate) attempts: u32,
    /// Found after its former owner died: it may be what killed it.
    pub(crate) suspect: bool,
    /// It fires by its time, not in its place.
    pub(crate) timer: bool,
    /// When it is dropped instead of run.
    pub(crate) expires: Option<Instant>,
}

/// A message in an activation's queue. Small, because it is moved from hand to hand: what most
/// calls do not have is set apart.
pub(crate) struct Delivery<K: Handlers> {
    pub(crate) method: usize,
    /// Taken when it runs.
    pub(crate) args: Option<K::Args>,
    pub(crate) reply: Reply<K>,
    pub(crate) deadline: Option<Instant>,
    /// Its place among all messages of the activation.
    pub(crate) number: u64,
    rare: Option<Box<Rare>>,
}

/// What calls from outside any context to volatile entities do not have.
#[derive(Default)]
pub(crate) struct Rare {
    /// The arguments as MessagePack, kept if it may have to run again.
    encoded: Option<Arc<[u8]>>,
    identity: Option<Identity>,
    /// What the ids of calls made by its handler derive from, if it has no identity and may be made
    /// again elsewhere.
    pub(crate) message: Option<CallId>,
    pub(crate) request: Option<Arc<RequestContext>>,
    pub(crate) parent: Option<Waiters>,
    pub(crate) row: Option<RowTag>,
}

impl<K: Handlers> Delivery<K> {
    pub(crate) fn new(args: K::Args, reply: Reply<K>) -> Self {
        Self {
            method: K::method(&args),
            args: Some(args),
            reply,
            deadline: None,
            number: 0,
            rare: None,
        }
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.rare.as_ref().and_then(|rare| rare.identity)
    }

    pub(crate) fn row(&self) -> Option<RowTag> {
        self.rare.as_ref().and_then(|rare| rare.row)
    }

    /// Returns the id from which those of its handler's calls derive, if that is fixed.
    pub(crate) fn message(&self) -> Option<CallId> {
        let rare = self.rare.as_ref()?;
        let row = rare.row.map(|row| row.message);
        let identity = rare.identity.map(|identity| identity.id);
        row.or(identity).or(rare.message)
    }

    /// Says how late its handler may run again: a stored message does whenever its node comes back,
    /// a call when it is repeated.
    pub(crate) fn recall(&self) -> Recall {
        match (self.row(), self.identity()) {
            (Some(_), _) => Recall::Long,
            (None, Some(identity)) => identity.recall,
            (None, None) => Recall::Brief,
        }
    }

    /// Says whether it must be known, before it runs, that it did not run before: its handler may
    /// ask others, and its outcome may be remembered.
    pub(crate) fn may_be_done(&self) -> bool {
        K::DURABLE.is_some() && !K::METHODS[self.method].runs_ahead && self.identity().is_some()
    }

    pub(crate) fn encoded(&self) -> Option<&Arc<[u8]>> {
        self.rare.as_ref().and_then(|rare| rare.encoded.as_ref())
    }

    pub(crate) fn request(&self) -> Option<Arc<RequestContext>> {
        self.rare.as_ref().and_then(|rare| rare.request.clone())
    }

    pub(crate) fn parent(&self) -> Option<Waiters> {
        self.rare.as_ref().and_then(|rare| rare.parent.clone())
    }

    /// Keeps the arguments in bytes, so that the message can be run again or recognized.
    pub(crate) fn encode(&mut self) -> Result<(), CodecError> {
        if let (None, Some(args)) = (self.encoded(), &self.args) {
            let encoded = K::encode_args(args, Codec::Msgpack)?;
            self.rare().encoded = Some(encoded.into());
        }
        Ok(())
    }

    /// Gives the message an identity; its arguments must have been encoded.
    pub(crate) fn identify(&mut self, id: CallId, recall: Recall) {
        let name = K::METHODS[self.method].name.as_bytes();
        let args = self.encoded().map(|bytes| &bytes[..]).unwrap_or_default();
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(args, xxhash_rust::xxh3::xxh3_64(name));
        self.rare().identity = Some(Identity { id, hash, recall });
    }

    /// Says whether it can run again after it ran.
    pub(crate) fn rearm(&mut self) -> bool {
        if self.args.is_none() {
            let bytes = self.encoded();
            self.args = bytes.and_then(|it| K::decode_args(self.method, Codec::Msgpack, it).ok());
        }
        self.args.is_some()
    }
}

impl<K: Handlers> Reply<K> {
    /// Says whether who waited went away.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::Typed(sender) => sender.is_closed(),
            Self::Wire(_, sender) | Self::Written(_, _, sender) => sender.is_closed(),
        }
    }

    /// Answers with a refusal.
    pub(crate) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Nobody => {}
            // A caller that went away abandoned the answer.
            Self::Typed(sender) => drop(sender.send(Err(refusal))),
            Self::Wire(_, sender) | Self::Written(_, _, sender) => {
                drop(sender.send(Err(refusal)));
            }
        }
    }

    /// Answers with the outcome itself.
    pub(crate) fn answer(self, outcome: K::Outcome) {
        match self {
            Self::Nobody => {}
            Self::Typed(sender) => drop(sender.send(Ok(outcome))),
            Self::Wire(codec, sender) => {
                drop(sender.send(K::encode_outcome(&outcome, codec).map_err(unwritable)));
            }
            Self::Written(_, encoded, sender) => drop(sender.send(Ok(encoded))),
        }
    }

    /// Writes the outcome down for a caller that wants bytes, before anything is stored: one that
    /// cannot be answered must leave no trace.
    pub(crate) fn write_down(&mut self, outcome: &K::Outcome) -> Result<(), Refusal> {
        let (Self::Wire(codec, _) | Self::Written(codec, _, _)) = self else {
            return Ok(());
        };
        let codec = *codec;
        let encoded = K::encode_outcome(outcome, codec).map_err(unwritable)?;
        too_large(&encoded)?;
        if let Self::Wire(_, sender) | Self::Written(_, _, sender) =
            std::mem::replace(self, Self::Nobody)
        {
            *self = Self::Written(codec, encoded, sender);
        }
        Ok(())
    }

    /// Answers with an outcome that is kept as MessagePack.
    pub(crate) fn answer_stored(self, method: usize, stored: &Encoded) {
        match self {
            Self::Nobody => {}
            Self::Wire(Codec::Msgpack, sender) => drop(sender.send(Ok(stored.clone()))),
            other => match K::decode_outcome(method, Codec::Msgpack, stored) {
                Ok(outcome) => other.answer(outcome),
                Err(error) => other.refuse(unwritable(error)),
            },
        }
    }
}

/// Refuses an outcome above the bound of replies.
pub(crate) fn too_large(encoded: &Encoded) -> Result<(), Refusal> {
    if encoded.bytes.len() > STATE_BYTES_MAX {
        let size = format!("the reply has {} bytes", encoded.bytes.len());
        return Err(Refusal::TooLarge(size.into()));
    }
    Ok(())
}

/// The refusal for a value that has no form in the codec asked for, or panicked on its way into it.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(crate) fn unwritable(error: CodecError) -> Refusal {
    let why = format!("the outcome cannot be written: {error}").into();
    if error.is_panic() {
        return Refusal::Crashed(why);
    }
    Refusal::Decode(why)
}
