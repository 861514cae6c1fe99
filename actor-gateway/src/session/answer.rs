//! What a session sends: JSON-RPC answers and notifications, in the socket's codec.

use actor_core::{codec::Codec, topic::TopicEvent};
use axum::extract::ws::{Message, Utf8Bytes};
use serde::Serialize;
use serde_json::Value;

use super::requests::Id;
use crate::rejection::{Facts, Rejection, place_of};

/// The JSON-RPC code of the first kind; the others count down from here.
const FIRST_CODE: i32 = -32_000;

/// The form of a socket's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire(pub(crate) Codec);

impl Wire {
    /// Answers a request with a value that is in the socket's codec already; nothing means null.
    pub(crate) fn success(self, id: &Id, result: &[u8]) -> Message {
        let nothing = self.encode(&());
        let result = if result.is_empty() { &nothing } else { result };
        self.object(&[
            ("jsonrpc", &self.encode("2.0")),
            ("id", &self.encode(id)),
            ("result", result),
        ])
    }

    /// Answers a request with a value of ours.
    pub(crate) fn success_of(self, id: &Id, result: &impl Serialize) -> Message {
        self.success(id, &self.encode(result))
    }

    /// Answers a request, or a message without a readable id, with an error.
    pub(crate) fn failure(
        self,
        id: Option<&Id>,
        code: Option<i32>,
        rejection: &Rejection,
    ) -> Message {
        #[derive(Serialize)]
        struct Failure<'a> {
            code: i32,
            message: &'a str,
            data: &'a Facts,
        }
        let place = i32::try_from(place_of(rejection.kind())).unwrap_or_default();
        let failure = Failure {
            code: code.unwrap_or(FIRST_CODE - place),
            message: rejection.detail(),
            data: rejection.facts(),
        };
        let (id, failure) = (self.encode(&id), self.encode(&failure));
        self.object(&[
            ("jsonrpc", &self.encode("2.0")),
            ("id", &id),
            ("error", &failure),
        ])
    }

    /// Tells the client something it did not ask for.
    pub(crate) fn notification(self, method: &str, params: &impl Serialize) -> Message {
        self.notification_raw(method, &self.encode(params))
    }

    /// Tells the client of an event.
    pub(crate) fn event(self, event: &TopicEvent) -> Message {
        let data = match self.0 {
            Codec::Json => None,
            // Topics are kept as JSON: this codec has no such bytes to hand on.
            Codec::Msgpack => Some(Codec::Json.decode::<Value>(&event.data).unwrap_or_default()),
        };
        let data = data.map(|value| self.encode(&value));
        let params = self.splice(&[
            ("topic", &self.encode(&*event.topic)),
            ("epoch", &self.encode(&event.position.epoch)),
            ("offset", &self.encode(&event.position.offset)),
            ("data", data.as_deref().unwrap_or(&event.data)),
        ]);
        self.notification_raw("topic.event", &params)
    }

    fn notification_raw(self, method: &str, params: &[u8]) -> Message {
        let version = self.encode("2.0");
        self.object(&[
            ("jsonrpc", &version),
            ("method", &self.encode(method)),
            ("params", params),
        ])
    }

    fn object(self, fields: &[(&str, &[u8])]) -> Message {
        let bytes = self.splice(fields);
        match self.0 {
            Codec::Msgpack => Message::Binary(bytes.into()),
            Codec::Json => {
                // Values from the store and from handlers are JSON, thus text; should one not be,
                // the client gets something it can refuse instead of a broken socket.
                let text = Utf8Bytes::try_from(bytes);
                Message::Text(text.unwrap_or_else(|_| Utf8Bytes::from_static("null")))
            }
        }
    }

    /// Writes an object around values that are in the codec already.
    fn splice(self, fields: &[(&str, &[u8])]) -> Vec<u8> {
        let length: usize = fields
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        let mut out = Vec::with_capacity(length + 2);
        match self.0 {
            Codec::Msgpack => {
                out.push(0x80 | u8::try_from(fields.len()).expect("our objects are small"));
                for (name, value) in fields {
                    out.extend(self.encode(*name));
                    out.extend_from_slice(value);
                }
            }
            Codec::Json => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push(if index == 0 { b'{' } else { b',' });
                    out.push(b'"');
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                    out.extend_from_slice(value);
                }
                out.push(b'}');
            }
        }
        out
    }

    fn encode(self, value: &(impl Serialize + ?Sized)) -> Vec<u8> {
        self.0
            .encode(value)
            .expect("our own types have a form in both codecs")
    }
}

#[cfg(test)]
mod tests {
    use actor_core::topic::Position;
    use serde_json::json;

    use super::*;

    fn read(message: Message) -> Value {
        match message {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            Message::Binary(bytes) => Codec::Msgpack.decode(&bytes).expect("MessagePack"),
            other => panic!("not a message with data: {other:?}"),
        }
    }

    #[test]
    fn answers_have_one_shape_in_both_codecs() {
        for codec in [Codec::Json, Codec::Msgpack] {
            let (wire, id) = (Wire(codec), Id::Text("a\"b".into()));
            let success =
                read(wire.success(&id, &codec.encode(&json!({"n": 1})).expect("encodes")));
            assert_eq!(
                success,
                json!({"jsonrpc": "2.0", "id": "a\"b", "result": {"n": 1}})
            );

            let failure = wire.failure(None, None, &Rejection::new("key_reused", "no"));
            let error = json!({"code": -32_008, "message": "no", "data": {"kind": "key_reused"}});
            assert_eq!(
                read(failure),
                json!({"jsonrpc": "2.0", "id": null, "error": error})
            );

            let event = TopicEvent {
                topic: "orders".into(),
                position: Position {
                    epoch: u64::MAX,
                    offset: 7,
                },
                name: "placed".into(),
                data: br#"{"cart":"c"}"#.as_slice().into(),
            };
            let params =
                json!({"topic": "orders", "epoch": u64::MAX, "offset": 7, "data": {"cart": "c"}});
            let expected = json!({"jsonrpc": "2.0", "method": "topic.event", "params": params});
            assert_eq!(read(wire.event(&event)), expected);
        }
    }
}
