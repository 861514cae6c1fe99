//! Messages in a form that can be stored: durable casts, timers, what handlers send.
//!
//! Not here: their SQL (`store/mailbox.rs`) and the queue of an activation (`entity/slot.rs`).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use crate::store::mailbox::Due;
use crate::{
    clock::Instant,
    codec::{Codec, CodecError},
    context::RequestContext,
    event::Event,
    id::{CallId, EntityId, ShardId},
    recall::Recall,
    store::{
        entities::Place,
        lane::Write,
        mailbox::{self, NewMessage},
    },
};

/// The kind under which a topic's name is hashed; no user's kind can be named so, and it is in the
/// default group.
const TOPICS: &str = "actor:topic";

/// A time further away than this counts as this far: a hundred years.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

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
    /// Before which time it must not run.
    pub due: Option<Due>,
    /// After which time it is dropped.
    pub expires: Option<Duration>,
    /// How late it may be sent again after it ran; `None` if nobody does, so that its outcome need
    /// not be remembered.
    pub recall: Option<Recall>,
}

/// A stored message and what the store knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MailboxRow {
    /// Its place in the mailbox.
    pub seq: i64,
    /// Whether it was stored for a later time: it fires by its time, not in its place.
    pub timer: bool,
    /// How long until it is due; zero when it is.
    pub due_in: Duration,
    /// When it is dropped instead of run.
    pub expires: Option<Instant>,
    /// How often it failed, or began while its owner died.
    pub attempts: u32,
    /// The message.
    pub message: StoredMessage,
}

/// What a row's context column holds: what a message carries besides its arguments.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredContext {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestContext>,
    /// Whether its outcome is remembered.
    #[serde(default)]
    keyed: bool,
    /// Whether that is for a short time only.
    #[serde(default, skip_serializing_if = "is_false")]
    brief: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl StoredMessage {
    /// Returns the write that stores it in `shard`.
    pub fn write(&self, shard: ShardId) -> Write {
        let context = StoredContext {
            request: self.request.as_deref().cloned(),
            keyed: self.recall.is_some(),
            brief: self.recall == Some(Recall::Brief),
        };
        let context = Codec::Msgpack.encode(&context).unwrap_or_default();
        let id = Arc::<str>::from(self.id.as_str());
        let message = NewMessage {
            id: self.message,
            method: self.method.clone(),
            codec: self.codec,
            args: self.args.clone(),
            context: context.into(),
            due: self.due.map(|due| match due {
                Due::After(delay) => Due::After(delay.min(FAR)),
                at @ Due::At(_) => at,
            }),
            expires: self.expires.map(|within| within.min(FAR)),
        };
        mailbox::insert(
            &Place {
                kind: self.kind.clone(),
                id,
                shard,
            },
            message,
        )
    }

    /// Returns how long until it may run; zero for one that is no timer.
    pub fn due_in(&self, now_ms: i64) -> Duration {
        match self.due {
            None => Duration::ZERO,
            Some(Due::After(delay)) => delay.min(FAR),
            Some(Due::At(at)) => {
                Duration::from_millis(at.saturating_sub(now_ms).max(0).cast_unsigned())
            }
        }
    }

    /// Returns the row this message became when the store numbered it, at the time `now`, which is
    /// `now_ms` by the database's clock.
    pub fn stored(self, seq: i64, now: Instant, now_ms: i64) -> MailboxRow {
        MailboxRow {
            seq,
            timer: self.due.is_some(),
            due_in: self.due_in(now_ms),
            expires: self.expires.map(|within| now + within.min(FAR)),
            attempts: 0,
            message: self,
        }
    }
}

impl MailboxRow {
    /// Reads a row that was fetched at the time `now`.
    ///
    /// # Errors
    /// When a newer version of the program wrote it in a way this one does not know.
    pub(crate) fn read(row: mailbox::Message, now: Instant) -> Result<Self, CodecError> {
        let codec = mailbox::parse_codec(&row.codec)
            .ok_or_else(|| CodecError::new(format_args!("codec `{}` is unknown", row.codec)))?;
        let context: StoredContext = if row.context.is_empty() {
            StoredContext::default()
        } else {
            Codec::Msgpack.decode(&row.context)?
        };
        Ok(Self {
            seq: row.seq,
            timer: row.due_in.is_some(),
            due_in: row.due_in.unwrap_or_default(),
            expires: row.expires_in.map(|within| now + within.min(FAR)),
            attempts: row.attempts,
            message: StoredMessage {
                kind: row.kind.into(),
                id: EntityId::from(row.entity.as_str()),
                message: row.id,
                method: row.method.into(),
                codec,
                args: row.args.into(),
                request: context.request.map(Arc::new),
                due: None,
                expires: None,
                recall: context.keyed.then_some(match context.brief {
                    true => Recall::Brief,
                    false => Recall::Long,
                }),
            },
        })
    }
}

/// An announcement, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Where it is announced.
    pub topic: Arc<str>,
    /// The event's name.
    pub name: Arc<str>,
    /// The id of the entities that receive it.
    pub key: Option<Arc<str>>,
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
            key: event.key().map(Into::into),
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

impl Effect {
    /// Returns what decides the shard: the target's kind and id, or the topic.
    pub fn target(&self) -> (&str, &str) {
        match self {
            Self::Send(message) => (&message.kind, message.id.as_str()),
            Self::Announce(announcement) => (TOPICS, &announcement.topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, Rng},
        codec::corpus::spoiled,
    };

    fn row(context: Vec<u8>, codec: &str) -> mailbox::Message {
        mailbox::Message {
            seq: 7,
            shard: ShardId(1),
            kind: "cart".into(),
            entity: "c-1".into(),
            id: CallId::from_key("k"),
            method: "add".into(),
            codec: codec.into(),
            args: vec![0xc1],
            context,
            due_at: None,
            expires_at: None,
            due_in: None,
            expires_in: None,
            attempts: 3,
            last_error: None,
        }
    }

    #[test]
    fn any_bytes_of_a_rows_context_are_read_or_refused() {
        let rng = Rng::seeded(37);
        let context = StoredContext {
            request: Some(RequestContext {
                tenant: Some("acme".into()),
                request_id: Some("r-1".into()),
                trace: None,
            }),
            keyed: true,
            brief: true,
        };
        let valid = Codec::Msgpack.encode(&context).expect("encodes");
        let (mut read, mut refused, now) = (0, 0, Clock.now());
        for _ in 0..40_000 {
            match MailboxRow::read(row(spoiled(&rng, &valid), "json"), now) {
                Ok(row) => {
                    read += 1;
                    // Nobody reads the arguments here: their kind does.
                    assert_eq!((row.seq, &*row.message.args), (7, [0xc1].as_slice()));
                }
                Err(_) => refused += 1,
            }
        }
        assert!(read > 100 && refused > 1_000, "{read} {refused}");
    }

    #[test]
    fn a_row_in_a_codec_of_a_newer_program_is_refused_by_name() {
        let error = MailboxRow::read(row(Vec::new(), "morse"), Clock.now()).expect_err("unknown");

        assert_eq!(error.to_string(), "codec `morse` is unknown");
    }
}
