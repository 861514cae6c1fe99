//! Calls, topics and limits over a WebSocket.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use actor_core::codec::Codec;
use actor_gateway::Limits;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::kit::{Placed, Stage, soon, until};

struct Socket {
    stream: WebSocketStream<TcpStream>,
    codec: Codec,
    welcome: Value,
}

impl Socket {
    async fn open(address: SocketAddr, codec: Codec) -> Self {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let mut request = format!("ws://{address}/ws")
            .into_client_request()
            .expect("a request");
        let protocol = match codec {
            Codec::Json => "actor.v1.json",
            Codec::Msgpack => "actor.v1.msgpack",
        };
        let protocol = protocol.parse().expect("a header");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (stream, _) = soon("an upgrade", client_async(request, tcp))
            .await
            .expect("a socket");
        let mut socket = Self {
            stream,
            codec,
            welcome: Value::Null,
        };
        socket.welcome = socket.receive().await;
        assert_eq!(socket.welcome["method"], "welcome");
        socket
    }

    async fn send(&mut self, message: &Value) {
        let bytes = self.codec.encode(message).expect("encodes");
        let message = match self.codec {
            Codec::Json => Message::text(String::from_utf8(bytes).expect("text")),
            Codec::Msgpack => Message::binary(bytes),
        };
        soon("sending", self.stream.send(message))
            .await
            .expect("sent");
    }

    async fn ask(&mut self, id: u64, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
    }

    async fn receive(&mut self) -> Value {
        loop {
            match soon("a message", self.stream.next())
                .await
                .expect("open")
                .expect("readable")
            {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Binary(bytes) => return self.codec.decode(&bytes).expect("MessagePack"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    async fn call(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.ask(id, method, params).await;
        loop {
            let answer = self.receive().await;
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Reads to the end; returns what was read and the close code.
    async fn closed(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut read = Vec::new();
        loop {
            match soon("the close", self.stream.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    return (read, frame.map(|frame| frame.code.into()));
                }
                Some(Ok(Message::Text(text))) => {
                    read.push(serde_json::from_str(&text).expect("JSON"))
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (read, None),
            }
        }
    }
}

fn stock(method: &str, args: &Value) -> Value {
    json!({"kind": "stock", "id": "tea", "method": method, "args": args})
}

#[tokio::test]
async fn calls_are_answered_in_both_subprotocols() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    for (codec, level) in [(Codec::Json, 2), (Codec::Msgpack, 4)] {
        let mut socket = Socket::open(served.address, codec).await;
        assert!(socket.welcome["params"]["reconnect_ms"].is_u64());
        assert_eq!(socket.welcome["params"]["node"], stage.node.name().as_str());

        let answer = socket
            .call(1, "entity.call", stock("restock", &json!({"quantity": 2})))
            .await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": level}));

        let answer = socket
            .call(2, "entity.call", stock("take", &json!({"quantity": 99})))
            .await;
        assert_eq!(answer["error"]["data"]["kind"], "rejected");
        assert_eq!(
            answer["error"]["data"]["error"],
            json!({"message": "sold out", "left": level})
        );
        assert_eq!(socket.call(3, "ping", json!({})).await["result"], "pong");
    }
}

#[tokio::test]
async fn a_malformed_message_costs_only_itself() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let table = [
        ("{", -32700, "decode"),
        ("[]", -32600, "decode"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"dance"}"#,
            -32601,
            "not_hosted",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"entity.call","params":{}}"#,
            -32602,
            "decode",
        ),
    ];
    for (text, code, kind) in table {
        soon("sending", socket.stream.send(Message::text(text)))
            .await
            .expect("sent");

        let answer = socket.receive().await;

        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["error"]["data"]["kind"], kind, "{answer}");
    }
    let wrong = socket
        .call(
            2,
            "entity.call",
            stock("restock", &json!({"quantity": "x"})),
        )
        .await;
    assert_eq!(wrong["error"]["data"]["kind"], "decode");
    let hidden = json!({"kind": "hidden", "id": "a", "method": "secret"});
    let hidden = socket.call(3, "entity.call", hidden).await;
    assert_eq!(hidden["error"]["data"]["kind"], "not_hosted");
    assert_eq!(socket.call(4, "ping", json!({})).await["result"], "pong");
}

#[tokio::test]
async fn an_oversize_message_closes_with_1009() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;

    socket
        .ask(1, "ping", json!({"padding": "x".repeat(70_000)}))
        .await;

    assert_eq!(socket.closed().await.1, Some(1009));
    until("the session to end", || served.drain.residents() == 0).await;
}

#[tokio::test]
async fn calls_of_one_session_to_one_entity_stay_in_order() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let diary = |method: &str, args: Value| {
        let mut params = json!({"kind": "diary", "id": "a", "method": method});
        params["args"] = args;
        params
    };
    for line in 0..100 {
        let method = if line % 3 == 0 {
            "entity.cast"
        } else {
            "entity.call"
        };
        socket
            .ask(line, method, diary("add", json!({"line": line})))
            .await;
    }
    let mut open: BTreeSet<u64> = (0..100).collect();
    while !open.is_empty() {
        let answer = socket.receive().await;
        assert!(answer.get("error").is_none(), "{answer}");
        open.remove(&answer["id"].as_u64().expect("an id"));
    }

    let lines = socket
        .call(1000, "entity.call", diary("lines", json!({})))
        .await;

    assert_eq!(lines["result"], json!((0..100).collect::<Vec<u64>>()));
}

#[tokio::test]
async fn a_notification_is_done_and_not_answered() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let params = stock("restock", &json!({"quantity": 7}));

    socket
        .send(&json!({"jsonrpc": "2.0", "method": "entity.call", "params": params}))
        .await;

    // The next answer is the next request's: nothing came in between.
    socket
        .ask(1, "entity.call", stock("level", &json!({})))
        .await;
    assert_eq!(
        socket.receive().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": 7})
    );
}

#[tokio::test]
async fn a_cancelled_call_is_answered_once() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let wait = json!({"kind": "log", "id": "a", "method": "wait"});
    socket.ask(1, "entity.call", wait).await;
    socket.ask(1, "ping", json!({})).await;
    assert_eq!(socket.receive().await["result"], "pong");

    socket.ask(2, "cancel", json!({"id": 1})).await;

    let abandoned = socket.receive().await;
    assert_eq!(
        (&abandoned["id"], &abandoned["error"]["data"]["kind"]),
        (&json!(1), &json!("unknown_outcome"))
    );
    assert_eq!(socket.receive().await["result"], json!({"cancelled": true}));
    assert_eq!(
        socket.call(3, "cancel", json!({"id": 1})).await["result"],
        json!({"cancelled": false})
    );
}

#[tokio::test]
async fn unanswered_calls_are_bounded_and_their_ids_unique() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.calls_max = 2;
    let served = stage.serve(limits).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    for id in [1, 2] {
        let wait = json!({"kind": "log", "id": id.to_string(), "method": "wait"});
        socket.ask(id, "entity.call", wait).await;
    }

    let third = socket
        .call(3, "entity.call", stock("level", &json!({})))
        .await;
    assert_eq!(third["error"]["data"]["kind"], "overloaded");
    socket
        .ask(1, "entity.call", stock("level", &json!({})))
        .await;
    let twice = socket.receive().await;
    assert_eq!(
        (&twice["id"], &twice["error"]["data"]["kind"]),
        (&Value::Null, &json!("decode"))
    );

    stage.gate.0.notify_one();
    let first = socket.receive().await;
    assert_eq!(first["result"], Value::Null);
}

#[tokio::test]
async fn a_subscriber_gets_events_from_its_position_on() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    stage.publish([1, 2]).await;
    let first = socket
        .call(1, "topic.subscribe", json!({"topic": "orders"}))
        .await;
    assert_eq!(
        (&first["result"]["offset"], &first["result"]["recovered"]),
        (&json!(2), &json!(true))
    );
    stage.publish([3]).await;
    let event = socket.receive().await;
    assert_eq!(
        (&event["method"], &event["params"]["data"]["order"]),
        (&json!("topic.event"), &json!(3))
    );
    drop(socket);
    stage.publish([4]).await;

    let mut socket = Socket::open(served.address, Codec::Json).await;
    let since = json!({"epoch": first["result"]["epoch"], "offset": 2});
    let again = socket
        .call(
            1,
            "topic.subscribe",
            json!({"topic": "orders", "since": since}),
        )
        .await;
    assert_eq!(again["result"]["recovered"], true);
    stage.publish([5]).await;

    for order in [3, 4, 5] {
        assert_eq!(socket.receive().await["params"]["data"]["order"], order);
    }
}

#[tokio::test]
async fn an_unsubscribed_topic_is_silent() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    socket
        .call(1, "topic.subscribe", json!({"topic": "talk"}))
        .await;
    let twice = socket
        .call(2, "topic.subscribe", json!({"topic": "talk"}))
        .await;
    assert_eq!(twice["error"]["data"]["kind"], "decode");
    let gone = socket
        .call(3, "topic.unsubscribe", json!({"topic": "talk"}))
        .await;
    assert_eq!(gone["result"], json!({"unsubscribed": true}));

    let published = socket
        .call(4, "topic.publish", json!({"topic": "talk", "data": [1]}))
        .await;

    assert_eq!(published["result"]["offset"], 1);
    socket.ask(5, "ping", json!({})).await;
    assert_eq!(socket.receive().await["id"], 5);
    until("the listener to leave", || {
        stage.node.client().topics().subscriptions() == 0
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_bounded_and_topics_checked() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.subscriptions_max = 1;
    let served = stage.serve(limits).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;

    let secret = socket
        .call(1, "topic.subscribe", json!({"topic": "secret"}))
        .await;
    assert_eq!(secret["error"]["data"]["kind"], "not_hosted");
    let first = socket
        .call(2, "topic.subscribe", json!({"topic": "talk"}))
        .await;
    assert_eq!(first["result"]["recovered"], true);
    let second = socket
        .call(3, "topic.subscribe", json!({"topic": "orders"}))
        .await;
    assert_eq!(second["error"]["data"]["kind"], "too_large");
    let publish = socket
        .call(4, "topic.publish", json!({"topic": "orders", "data": 1}))
        .await;
    assert_eq!(publish["error"]["data"]["kind"], "forbidden");
}

#[tokio::test]
async fn a_slow_client_is_closed_with_4008_and_recovers_by_position() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.write_timeout = Duration::from_millis(200);
    let served = stage.serve(limits).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let start = socket
        .call(1, "topic.subscribe", json!({"topic": "orders"}))
        .await;
    let epoch = |event: &Value| event["params"]["epoch"].clone();

    // Nothing is read here: what the system buffers fills up, then a write stands still.
    let padding = "x".repeat(100_000);
    for order in 1..=200 {
        let event = Placed {
            order,
            padding: padding.clone(),
        };
        stage.node.client().publish(event).await.expect("stored");
    }
    until("the writer to give up", || {
        stage.node.client().topics().subscriptions() == 0
    })
    .await;

    let (read, code) = socket.closed().await;
    assert_eq!(code, Some(4008));
    assert_eq!(start["result"]["offset"], 0);
    let last = read.last().expect("some events arrived");
    let orders: Vec<u64> = read
        .iter()
        .filter_map(|event| event["params"]["data"]["order"].as_u64())
        .collect();
    assert_eq!(orders, (1..=orders.len() as u64).collect::<Vec<_>>());

    let mut socket = Socket::open(served.address, Codec::Json).await;
    let since = json!({"epoch": epoch(last), "offset": orders.len()});
    let again = socket
        .call(
            1,
            "topic.subscribe",
            json!({"topic": "orders", "since": since}),
        )
        .await;
    assert_eq!(again["result"]["recovered"], true);
    let next = socket.receive().await;
    assert_eq!(next["params"]["data"]["order"], orders.len() + 1);
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_millis(50);
    let served = stage.serve(limits).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;

    assert_eq!(socket.closed().await.1, Some(1001));
}

#[tokio::test]
async fn sockets_over_the_bound_are_refused() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.sessions_max = 1;
    let served = stage.serve(limits).await;
    let _open = Socket::open(served.address, Codec::Json).await;

    let tcp = TcpStream::connect(served.address)
        .await
        .expect("a connection");
    let refused = client_async(format!("ws://{}/ws", served.address), tcp).await;

    assert!(refused.expect_err("refused").to_string().contains("429"));
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_closes_with_1012() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let mut socket = Socket::open(served.address, Codec::Json).await;
    let mut quiet = Socket::open(served.address, Codec::Json).await;
    let wait = json!({"kind": "log", "id": "a", "method": "wait"});
    socket.ask(1, "entity.call", wait).await;
    assert_eq!(socket.call(2, "ping", json!({})).await["result"], "pong");

    served.drain.begin();
    assert_eq!(quiet.closed().await.1, Some(1012));
    stage.gate.0.notify_one();

    let (read, code) = socket.closed().await;
    assert_eq!(read, [json!({"jsonrpc": "2.0", "id": 1, "result": null})]);
    assert_eq!(code, Some(1012));
    soon("the server to end", served.ended).await.expect("ends");
}
