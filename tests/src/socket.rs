//! A WebSocket client that speaks the gateway's JSON-RPC: one call at a time, every answer by a
//! deadline.
//!
//! Notifications that arrive meanwhile are kept. It never reconnects: that is for the tests to
//! decide.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error as WsError, Message, client::IntoClientRequest, http::HeaderValue,
        protocol::frame::coding::CloseCode,
    },
};

use crate::{Context, Deadline, Failure, NoAnswer, Result};

/// The subprotocol with text frames.
const SUBPROTOCOL: &str = "actor.v1.json";
/// Notifications kept while waiting for something else; older ones are dropped.
const NOTIFICATIONS_KEPT: usize = 10_000;

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The JSON-RPC code.
    pub code: i64,
    /// The text for people.
    pub message: String,
    /// The kind, as in the HTTP map; empty if there is none.
    pub kind: String,
    /// All that came with it, as JSON.
    pub details: String,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    calls: u64,
    notifications: VecDeque<Value>,
}

impl Socket {
    /// Opens `/ws` at `address`.
    ///
    /// # Errors
    /// When nobody listens, the upgrade is refused, or the deadline came first.
    pub async fn open(address: SocketAddr, by: Deadline) -> Result<Self, NoAnswer> {
        let opening = async {
            let refused = |error: std::io::Error| NoAnswer::Refused(error.to_string());
            let tcp = TcpStream::connect(address).await.map_err(refused)?;
            tcp.set_nodelay(true).map_err(refused)?;
            let mut request = format!("ws://{address}/ws")
                .into_client_request()
                .map_err(broken)?;
            let name = HeaderValue::from_static(SUBPROTOCOL);
            request.headers_mut().insert("sec-websocket-protocol", name);
            let (stream, _) = client_async(request, tcp).await.map_err(broken)?;
            Ok(Self {
                stream,
                calls: 0,
                notifications: VecDeque::new(),
            })
        };
        by.limit("a socket", opening)
            .await
            .map_err(|_| NoAnswer::Late)?
    }

    /// Calls `method` and returns its result or its refusal.
    ///
    /// # Errors
    /// When the connection ended or the deadline came first.
    pub async fn call(
        &mut self,
        method: &str,
        params: Value,
        by: Deadline,
    ) -> Result<Result<Value, Refusal>, NoAnswer> {
        self.calls += 1;
        let id = self.calls;
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(call.to_string(), by).await?;
        loop {
            let object = self.receive(by).await?;
            if object.get("id") == Some(&json!(id)) {
                return Ok(outcome(&object));
            }
            self.keep(object);
        }
    }

    /// Sends any text as one message.
    ///
    /// # Errors
    /// When the connection ended or the deadline came first.
    pub async fn send(&mut self, text: impl Into<String>, by: Deadline) -> Result<(), NoAnswer> {
        let sending = self.stream.send(Message::text(text.into()));
        by.limit("sending", sending)
            .await
            .map_err(|_| NoAnswer::Late)?
            .map_err(broken)
    }

    /// Returns the next object the server sends, whatever it is.
    ///
    /// # Errors
    /// When the connection ended, something that is not JSON arrived, or the deadline came first.
    pub async fn receive(&mut self, by: Deadline) -> Result<Value, NoAnswer> {
        loop {
            let next = by.limit("a message", self.stream.next()).await;
            match next.map_err(|_| NoAnswer::Late)? {
                Some(Ok(Message::Text(text))) => {
                    let wrong = |_| NoAnswer::Broken(format!("not JSON: {text}"));
                    return serde_json::from_str(&text).map_err(wrong);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(NoAnswer::Broken(format!("closed: {frame:?}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(NoAnswer::Broken("end of stream".to_owned())),
            }
        }
    }

    /// Waits for the first notification of `method` that `accept` agrees to, and returns its
    /// parameters.
    ///
    /// # Errors
    /// When the connection ended or the deadline came first.
    pub async fn notification(
        &mut self,
        method: &str,
        by: Deadline,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let fits = |object: &Value| object["method"] == method && accept(&object["params"]);
        if let Some(index) = self.notifications.iter().position(fits) {
            let found = self
                .notifications
                .remove(index)
                .context("it was found a moment ago")?;
            return Ok(found["params"].clone());
        }
        loop {
            let object = self
                .receive(by)
                .await
                .context(format!("waiting for {method}"))?;
            if fits(&object) {
                return Ok(object["params"].clone());
            }
            self.keep(object);
        }
    }

    /// Reads to the end and returns the close code; `None` if the connection ended without one.
    ///
    /// # Errors
    /// When the deadline came first.
    pub async fn closed(&mut self, by: Deadline) -> Result<Option<u16>> {
        loop {
            match by
                .limit("the close of the socket", self.stream.next())
                .await?
            {
                Some(Ok(Message::Close(frame))) => {
                    return Ok(frame.map(|frame| u16::from(frame.code)));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    /// Closes the socket as a browser does that leaves the page.
    ///
    /// # Errors
    /// When the other side does not agree before the deadline.
    pub async fn close(mut self, by: Deadline) -> Result<()> {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        by.limit("sending the close", self.stream.close(Some(frame)))
            .await??;
        self.closed(by).await.map(|_| ())
    }

    fn keep(&mut self, object: Value) {
        if object.get("method").is_none() {
            return;
        }
        if self.notifications.len() == NOTIFICATIONS_KEPT {
            self.notifications.pop_front();
        }
        self.notifications.push_back(object);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
fn broken(error: WsError) -> NoAnswer {
    NoAnswer::Broken(error.to_string())
}

/// Returns what a JSON-RPC response says.
fn outcome(object: &Value) -> Result<Value, Refusal> {
    let Some(error) = object.get("error") else {
        return Ok(object["result"].clone());
    };
    let details = &error["data"];
    Err(Refusal {
        code: error["code"].as_i64().unwrap_or_default(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
        kind: details["kind"].as_str().unwrap_or_default().to_owned(),
        details: details.to_string(),
    })
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(format!("refused: {refusal:?}"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::{
        accept_hdr_async,
        tungstenite::handshake::server::{
            ErrorResponse, Request as UpgradeRequest, Response as UpgradeResponse,
        },
    };

    use super::*;

    type UpgradeOutcome = std::result::Result<UpgradeResponse, ErrorResponse>;

    fn agree(_: &UpgradeRequest, mut response: UpgradeResponse) -> UpgradeOutcome {
        let name = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert("sec-websocket-protocol", name);
        Ok(response)
    }

    /// Accepts one socket, answers its first message with `answers`, and closes with 1012.
    async fn server(answers: Vec<Value>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = accept_hdr_async(tcp, agree).await.unwrap();
            stream.next().await.unwrap().unwrap();
            for answer in answers {
                stream
                    .send(Message::text(answer.to_string()))
                    .await
                    .unwrap();
            }
            let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
                code: CloseCode::Restart,
                reason: "".into(),
            };
            stream.close(Some(frame)).await.unwrap();
            while stream.next().await.is_some() {}
        });
        address
    }

    #[tokio::test]
    async fn an_answer_is_found_behind_notifications_and_these_are_kept() {
        let event = json!({"jsonrpc": "2.0", "method": "topic.event", "params": {"offset": 1}});
        let result = json!({"jsonrpc": "2.0", "id": 1, "result": 7});
        let by = Deadline::seconds(5);
        let mut socket = Socket::open(server(vec![event, result]).await, by)
            .await
            .unwrap();

        let answer = socket.call("entity.call", json!({}), by).await.unwrap();
        let event = socket
            .notification("topic.event", by, |_| true)
            .await
            .unwrap();

        assert_eq!((answer, event), (Ok(json!(7)), json!({"offset": 1})));
        assert_eq!(socket.closed(by).await.unwrap(), Some(1012));
    }

    #[tokio::test]
    async fn an_error_carries_its_kind() {
        let error =
            json!({"code": -32000, "message": "out of stock", "data": {"kind": "rejected"}});
        let by = Deadline::seconds(5);
        let answers = vec![json!({"jsonrpc": "2.0", "id": 1, "error": error})];
        let mut socket = Socket::open(server(answers).await, by).await.unwrap();

        let refusal = socket
            .call("entity.call", json!({}), by)
            .await
            .unwrap()
            .unwrap_err();

        assert_eq!((refusal.kind.as_str(), refusal.code), ("rejected", -32000));
    }

    #[tokio::test]
    async fn a_socket_that_ends_before_the_answer_is_broken() {
        let by = Deadline::seconds(5);
        let mut socket = Socket::open(server(Vec::new()).await, by).await.unwrap();

        let answer = socket.call("entity.call", json!({}), by).await;

        assert!(matches!(answer, Err(NoAnswer::Broken(_))), "{answer:?}");
    }
}
