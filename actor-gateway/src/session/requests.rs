//! What a client asks over a socket: JSON-RPC 2.0 objects, read in either codec.

use std::{fmt, sync::Arc, time::Duration};

use actor_core::{
    client::{CALL_TIMEOUT, CALL_TIMEOUT_MAX},
    codec::Codec,
    topic::Position,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::raw::{self, Fields, Unreadable};
use crate::{gateway::shown, preferences, rejection::Rejection};

/// The longest request id that is text, in bytes.
const ID_BYTES_MAX: usize = 128;

/// The JSON-RPC codes of a request that cannot be understood.
const BROKEN: i32 = -32700;
const INVALID: i32 = -32600;
const UNKNOWN_METHOD: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// The client's name for a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Id {
    Number(i64),
    Text(Arc<str>),
}

/// A value in the codec it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) codec: Codec,
    pub(crate) bytes: Vec<u8>,
}

/// A request, or without an id a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: Option<Id>,
    pub(crate) operation: Operation,
}

/// A call or cast of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityCall {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) args: Raw,
    pub(crate) key: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) cast: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Entity(EntityCall),
    SagaStart {
        kind: String,
        id: String,
        input: Raw,
    },
    SagaResult {
        kind: String,
        id: String,
        wait: Duration,
    },
    SagaSignal {
        kind: String,
        id: String,
        name: String,
        data: Raw,
    },
    Subscribe {
        topic: Arc<str>,
        since: Option<Position>,
    },
    Unsubscribe {
        topic: Arc<str>,
    },
    Publish {
        topic: Arc<str>,
        data: Raw,
    },
    Cancel {
        id: Id,
    },
    Ping,
}

/// A message that cannot be understood; it costs only itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) id: Option<Id>,
    pub(crate) code: i32,
    pub(crate) rejection: Box<Rejection>,
}

/// Reads a message.
pub(crate) fn read(codec: Codec, message: &[u8]) -> Result<Request, Malformed> {
    let malformed = |id: Option<Id>, code: i32, detail: &dyn fmt::Display| {
        let kind = if code == UNKNOWN_METHOD {
            "not_hosted"
        } else {
            "decode"
        };
        Malformed {
            id,
            code,
            rejection: Box::new(Rejection::new(kind, detail)),
        }
    };
    let mut fields = raw::fields(codec, message).map_err(|unreadable| match unreadable {
        Unreadable::Broken(why) => malformed(None, BROKEN, &why),
        Unreadable::NoObject => malformed(None, INVALID, &"send one JSON-RPC 2.0 object a message"),
    })?;
    let mut envelope = Params {
        codec,
        fields: std::mem::take(&mut fields),
    };
    let id = envelope.optional::<Id>("id").and_then(check_id);
    let id = id.map_err(|rejection| malformed(None, INVALID, &rejection.detail()))?;
    let invalid = |rejection: Rejection| malformed(id.clone(), INVALID, &rejection.detail());
    let version = envelope.required::<String>("jsonrpc").map_err(invalid)?;
    if version != "2.0" {
        let text = format!("`jsonrpc` is {}: write \"2.0\"", shown(&version));
        return Err(malformed(id, INVALID, &text));
    }
    let method = envelope.required::<String>("method").map_err(invalid)?;
    let params = match envelope.fields.get("params") {
        None => Fields::new(),
        Some(bytes) => raw::fields(codec, bytes).map_err(|_| {
            malformed(
                id.clone(),
                INVALID_PARAMS,
                &"`params` is an object of named values",
            )
        })?,
    };
    let mut params = Params {
        codec,
        fields: params,
    };
    let operation = match operation(&method, &mut params) {
        None => {
            let text = format!("there is no method {}", shown(&method));
            return Err(malformed(id, UNKNOWN_METHOD, &text));
        }
        Some(operation) => operation.and_then(|operation| params.finish().map(|()| operation)),
    };
    let operation = operation
        .map_err(|rejection| malformed(id.clone(), INVALID_PARAMS, &rejection.detail()))?;
    Ok(Request { id, operation })
}

fn check_id(id: Option<Id>) -> Result<Option<Id>, Rejection> {
    match id {
        Some(Id::Text(text)) if text.len() > ID_BYTES_MAX => Err(Rejection::new(
            "decode",
            format_args!("`id` has at most {ID_BYTES_MAX} bytes"),
        )),
        id => Ok(id),
    }
}

/// Reads the parameters of a method; `None` if there is no such method.
fn operation(method: &str, params: &mut Params<'_>) -> Option<Result<Operation, Rejection>> {
    Some(match method {
        "entity.call" => entity(params, false),
        "entity.cast" => entity(params, true),
        "saga.start" => saga_start(params),
        "saga.result" => saga_result(params),
        "saga.signal" => saga_signal(params),
        "topic.subscribe" => subscribe(params),
        "topic.unsubscribe" => params
            .required("topic")
            .map(|topic| Operation::Unsubscribe { topic }),
        "topic.publish" => publish(params),
        "cancel" => params.required("id").map(|id| Operation::Cancel { id }),
        "ping" => Ok(Operation::Ping),
        _ => return None,
    })
}

fn entity(params: &mut Params<'_>, cast: bool) -> Result<Operation, Rejection> {
    let key = params.optional::<String>("key")?;
    if let Some(key) = &key {
        preferences::checked_key("key", key)?;
    }
    let timeout = params
        .optional::<u64>("timeout_ms")?
        .map(Duration::from_millis);
    Ok(Operation::Entity(EntityCall {
        kind: params.required("kind")?,
        id: params.required("id")?,
        method: params.required("method")?,
        args: params.raw("args").unwrap_or(Raw {
            codec: params.codec,
            bytes: Vec::new(),
        }),
        key,
        timeout: timeout.unwrap_or(CALL_TIMEOUT).min(CALL_TIMEOUT_MAX),
        cast,
    }))
}

fn saga_start(params: &mut Params<'_>) -> Result<Operation, Rejection> {
    let empty = Raw {
        codec: Codec::Json,
        bytes: b"{}".to_vec(),
    };
    Ok(Operation::SagaStart {
        kind: params.required("kind")?,
        id: params.required("id")?,
        input: params.raw("input").unwrap_or(empty),
    })
}

fn saga_result(params: &mut Params<'_>) -> Result<Operation, Rejection> {
    let wait = params.optional::<u64>("wait_ms")?.unwrap_or(0);
    Ok(Operation::SagaResult {
        kind: params.required("kind")?,
        id: params.required("id")?,
        wait: Duration::from_millis(wait).min(CALL_TIMEOUT_MAX),
    })
}

fn saga_signal(params: &mut Params<'_>) -> Result<Operation, Rejection> {
    Ok(Operation::SagaSignal {
        kind: params.required("kind")?,
        id: params.required("id")?,
        name: params.required("name")?,
        data: params.raw("data").unwrap_or(Raw {
            codec: params.codec,
            bytes: Vec::new(),
        }),
    })
}

fn subscribe(params: &mut Params<'_>) -> Result<Operation, Rejection> {
    Ok(Operation::Subscribe {
        topic: params.required("topic")?,
        since: params.optional("since")?,
    })
}

fn publish(params: &mut Params<'_>) -> Result<Operation, Rejection> {
    let missing = || Rejection::new("decode", "`data` is missing");
    Ok(Operation::Publish {
        topic: params.required("topic")?,
        data: params.raw("data").ok_or_else(missing)?,
    })
}

/// Named values that are taken one by one, so that what is left over is a mistake.
struct Params<'a> {
    codec: Codec,
    fields: Fields<'a>,
}

impl Params<'_> {
    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Rejection> {
        let Some(bytes) = self.fields.remove(name) else {
            return Ok(None);
        };
        let read = self.codec.decode::<Option<T>>(bytes);
        read.map_err(|error| Rejection::new("decode", format_args!("`{name}`: {error}")))
    }

    fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Rejection> {
        let missing = || Rejection::new("decode", format_args!("`{name}` is missing"));
        self.optional(name)?.ok_or_else(missing)
    }

    fn raw(&mut self, name: &str) -> Option<Raw> {
        let bytes = self.fields.remove(name)?;
        Some(Raw {
            codec: self.codec,
            bytes: bytes.to_vec(),
        })
    }

    fn finish(&self) -> Result<(), Rejection> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                let text = format!("there is no parameter {}", shown(name));
                Err(Rejection::new("decode", text))
            }
        }
    }
}

#[cfg(test)]
mod tests;
