//! What the operations of a session do: each is a future, with the lane that keeps its order.

use std::{sync::Arc, time::Duration};

use actor_core::{Invocation, Refusal, codec::Codec, entity::Encoded, topic::Position};
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{AbortRegistration, Abortable, StreamExt},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Place,
    outbound::Events,
    requests::{EntityCall, Operation, Raw},
};
use crate::{
    gateway::{Family, Shared},
    rejection::Rejection,
    request::{self, Caller},
    sagas, topics,
};

/// What a lane keeps in order: the calls of one session to one target.
pub(super) type Lane = (&'static str, String, String);

/// An operation that takes time.
pub(super) struct Work {
    pub(super) lane: Lane,
    /// Whether what follows in the lane waits for its end. A call is queued at its target as soon
    /// as it is begun; a cast only when it is stored.
    pub(super) exclusive: bool,
    /// The subscription that fails with it.
    pub(super) place: Option<Place>,
    pub(super) run: BoxFuture<'static, Outcome>,
}

/// How it ended.
pub(super) enum Outcome {
    /// With an outcome in the codec given.
    Encoded(Codec, Encoded),
    /// With a place in a topic.
    Position(Position),
    /// With a feed.
    Subscribed(Box<Feeding>),
    /// With an error.
    Refused(Rejection),
}

/// A subscription that came about.
pub(super) struct Feeding {
    pub(super) result: Listening,
    pub(super) events: Events,
}

/// What a subscriber is told.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Listening {
    epoch: u64,
    offset: u64,
    recovered: bool,
}

/// Prepares an operation other than a subscription.
pub(super) fn of(shared: &Arc<Shared>, caller: &Caller, operation: Operation) -> Work {
    match operation {
        Operation::Entity(call) => entity(shared, caller, call),
        Operation::SagaStart { kind, id, input } => {
            saga(shared, caller, (kind, id), "start", input)
        }
        Operation::SagaSignal {
            kind,
            id,
            name,
            data,
        } => match sagas::signal_args(&name, data.codec, &data.bytes) {
            Ok(bytes) => {
                let args = Raw {
                    codec: data.codec,
                    bytes,
                };
                saga(shared, caller, (kind, id), "signal", args)
            }
            Err(rejection) => refused(rejection),
        },
        Operation::SagaResult { kind, id, wait } => {
            let args = Raw {
                codec: Codec::Json,
                bytes: sagas::wait_args(wait),
            };
            let invocation = invocation(&kind, &id, "result", args, wait + sagas::ANSWER_MARGIN);
            invoke(shared, caller, Family::Sagas, invocation, false)
        }
        Operation::Publish { topic, data } => publish(shared, caller, topic, data),
        // The session does these itself.
        Operation::Subscribe { .. }
        | Operation::Unsubscribe { .. }
        | Operation::Cancel { .. }
        | Operation::Ping => refused(Rejection::new("crashed", "the operation takes no time")),
    }
}

fn entity(shared: &Arc<Shared>, caller: &Caller, call: EntityCall) -> Work {
    let mut asked = invocation(&call.kind, &call.id, &call.method, call.args, call.timeout);
    if let Some(key) = &call.key {
        asked = asked.key(key);
    }
    if call.cast {
        asked = asked.cast();
    }
    invoke(shared, caller, Family::Entities, asked, call.cast)
}

fn saga(
    shared: &Arc<Shared>,
    caller: &Caller,
    (kind, id): (String, String),
    verb: &str,
    args: Raw,
) -> Work {
    let invocation = invocation(&kind, &id, verb, args, sagas::ANSWER_MARGIN);
    invoke(shared, caller, Family::Sagas, invocation, true)
}

fn invocation(kind: &str, id: &str, method: &str, args: Raw, timeout: Duration) -> Invocation {
    Invocation::new(kind, id, method)
        .args(args.codec, args.bytes)
        .timeout(timeout)
}

fn invoke(
    shared: &Arc<Shared>,
    caller: &Caller,
    family: Family,
    invocation: Invocation,
    exclusive: bool,
) -> Work {
    let lane = (
        "target",
        invocation.kind.to_string(),
        invocation.id.to_string(),
    );
    let codec = invocation.reply;
    let (shared, caller) = (shared.clone(), caller.clone());
    let run = async move {
        let outcome = request::invoke(&shared, &caller, family, invocation).await;
        outcome.map_or_else(Outcome::from, |encoded| Outcome::Encoded(codec, encoded))
    };
    Work {
        lane,
        exclusive,
        place: None,
        run: run.boxed(),
    }
}

fn publish(shared: &Arc<Shared>, caller: &Caller, topic: Arc<str>, data: Raw) -> Work {
    let lane = ("topic", topic.to_string(), String::new());
    let (shared, caller) = (shared.clone(), caller.clone());
    let run = async move {
        let json = match data.codec {
            Codec::Json => Ok(data.bytes),
            // Topics are kept as JSON.
            codec => codec
                .decode::<Value>(&data.bytes)
                .and_then(|value| Codec::Json.encode(&value)),
        };
        let json = json.map_err(|error| Refusal::Decode(error.to_string().into()));
        let announced = match json {
            Ok(json) => topics::announce(&shared, &caller, &topic, &json).await,
            Err(refusal) => Err(refusal),
        };
        announced.map_or_else(Outcome::from, Outcome::Position)
    };
    Work {
        lane,
        exclusive: true,
        place: None,
        run: run.boxed(),
    }
}

/// Prepares a subscription that `end` ends.
pub(super) fn subscribe(
    shared: &Arc<Shared>,
    caller: &Caller,
    place: Place,
    since: Option<Position>,
    end: AbortRegistration,
) -> Work {
    let lane = ("listen", place.topic.to_string(), String::new());
    let (shared, caller, topic) = (shared.clone(), caller.clone(), place.topic.clone());
    let run = async move {
        let opened = match topics::open(&shared, &caller, &topic, since).await {
            Ok(opened) => opened,
            Err(refusal) => return Outcome::from(refusal),
        };
        let Position { epoch, offset } = opened.position;
        let result = Listening {
            epoch,
            offset,
            recovered: opened.recovered,
        };
        let events = Abortable::new(opened.feed.into_stream(), end).boxed();
        Outcome::Subscribed(Box::new(Feeding { result, events }))
    };
    Work {
        lane,
        exclusive: false,
        place: Some(place),
        run: run.boxed(),
    }
}

fn refused(rejection: Rejection) -> Work {
    let lane = ("nothing", String::new(), String::new());
    let run = std::future::ready(Outcome::Refused(rejection)).boxed();
    Work {
        lane,
        exclusive: false,
        place: None,
        run,
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}
