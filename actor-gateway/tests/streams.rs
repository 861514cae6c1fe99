//! Topics as server-sent events, and publishing from outside.

use actor_gateway::Limits;
use axum::{Router, body::Body, http::StatusCode};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::kit::{self, Stage, assert_problem, get, post};

/// An open stream of events.
struct Events {
    bytes: axum::body::BodyDataStream,
    text: String,
}

#[derive(Debug, Default, PartialEq)]
struct Sent {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
}

impl Events {
    async fn open(router: &Router, path: &str, last: Option<&str>) -> Self {
        let mut request = kit::request("GET", path).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = kit::send(router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            bytes: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// Returns the next block that is not only a comment.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let mut sent = Sent::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", value)) => sent.id = Some(value.to_owned()),
                        Some(("event", value)) => sent.event = Some(value.to_owned()),
                        Some(("data", value)) => sent.data = Some(value.to_owned()),
                        _ => {}
                    }
                }
                if sent != Sent::default() {
                    return Some(sent);
                }
                continue;
            }
            let chunk = kit::soon("an event", self.bytes.next()).await?;
            self.text
                .push_str(&String::from_utf8_lossy(&chunk.expect("bytes")));
        }
    }

    async fn order(&mut self) -> (String, u64) {
        let sent = self.next().await.expect("an event");
        let data: Value = serde_json::from_str(&sent.data.expect("data")).expect("JSON");
        (
            sent.id.expect("an id"),
            data["order"].as_u64().expect("a number"),
        )
    }
}

#[tokio::test]
async fn a_listener_resumes_without_gap_or_duplicate() {
    let stage = Stage::new().await;
    let router = stage.router();
    stage.publish([1]).await;
    let mut events = Events::open(&router, "/topics/orders", None).await;
    let hello = events.next().await.expect("where the topic stands");
    assert_eq!(hello.data, None);
    stage.publish([2, 3]).await;
    let (id, order) = events.order().await;
    assert_eq!(order, 2);
    drop(events);
    stage.publish([4, 5]).await;

    let mut events = Events::open(&router, "/topics/orders", Some(&id)).await;
    assert_eq!(events.next().await.expect("a start").id, Some(id));
    stage.publish([6]).await;

    for expected in 3..=6 {
        assert_eq!(events.order().await.1, expected);
    }
}

#[tokio::test]
async fn a_listener_that_saw_nothing_yet_resumes_from_where_it_began() {
    let stage = Stage::new().await;
    let router = stage.router();
    stage.publish([1]).await;
    let mut events = Events::open(&router, "/topics/orders", None).await;
    let id = events.next().await.expect("a start").id.expect("an id");
    drop(events);
    stage.publish([2]).await;

    let mut events = Events::open(&router, &format!("/topics/orders?since={id}"), None).await;
    events.next().await;

    assert_eq!(events.order().await.1, 2);
}

#[tokio::test]
async fn a_burst_larger_than_the_queue_reaches_a_listener_whole() {
    let stage = Stage::new().await;
    let router = stage.router();
    let mut events = Events::open(&router, "/topics/orders", None).await;
    events.next().await;

    stage.publish(1..=600).await;

    for expected in 1..=600 {
        assert_eq!(events.order().await.1, expected);
    }
}

#[tokio::test]
async fn a_history_longer_than_one_reading_reaches_a_listener_whole() {
    let stage = Stage::new().await;
    let router = stage.router();
    stage.publish(1..=1100).await;

    let mut events = Events::open(&router, "/topics/orders?since=0:0", None).await;
    events.next().await;

    for expected in 1..=1100 {
        assert_eq!(events.order().await.1, expected);
    }
}

#[tokio::test]
async fn a_position_that_is_gone_is_announced_as_a_reset() {
    let stage = Stage::new().await;
    let router = stage.router();
    stage.publish([1]).await;

    let mut events = Events::open(&router, "/topics/orders", Some("12345:1")).await;

    let reset = events.next().await.expect("a reset");
    assert_eq!(reset.event.as_deref(), Some("reset"));
    let position: Value = serde_json::from_str(&reset.data.expect("data")).expect("JSON");
    assert_eq!(position["offset"], 1);
}

#[tokio::test]
async fn line_ends_in_an_event_cannot_forge_fields() {
    let stage = Stage::new().await;
    let router = stage.router();
    let mut events = Events::open(&router, "/topics/talk", None).await;
    events.next().await;

    let body = "{\r\n\"a\":\n\r\"id: 7\"\r}";
    assert_eq!(post(&router, "/topics/talk", body).await.0, StatusCode::OK);

    let sent = events.next().await.expect("an event");
    let data: Value = serde_json::from_str(&sent.data.expect("data")).expect("JSON");
    assert_eq!(data, json!({"a": "id: 7"}));
}

#[tokio::test]
async fn publishing_returns_the_position() {
    let stage = Stage::new().await;
    let router = stage.router();

    let (status, first) = post(&router, "/topics/talk", r#"{"hello":1}"#).await;
    let (_, second) = post(&router, "/topics/talk", "2").await;

    assert_eq!(
        (status, &first["offset"], &second["offset"]),
        (StatusCode::OK, &1.into(), &2.into())
    );
    assert_eq!(first["epoch"], second["epoch"]);
    let epoch = first["epoch"].as_u64().expect("a number");
    assert!(epoch < 1 << 53, "a browser cannot hold {epoch}");
}

#[tokio::test]
async fn only_open_topics_are_reachable_and_only_as_far_as_they_are_open() {
    let stage = Stage::new().await;
    let router = stage.router();

    assert_problem(
        &post(&router, "/topics/orders", "{}").await,
        403,
        "forbidden",
    );
    assert_problem(
        &post(&router, "/topics/secret", "{}").await,
        404,
        "not_hosted",
    );
    assert_problem(&get(&router, "/topics/secret").await, 404, "not_hosted");
    assert_problem(&get(&router, "/topics/Not%20One").await, 400, "decode");
    assert_problem(&post(&router, "/topics/talk", "{").await, 400, "decode");
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert_problem(&post(&router, "/topics/talk", &deep).await, 400, "decode");
    assert_problem(&get(&router, "/topics/talk?since=now").await, 400, "decode");
    let request = kit::request("GET", "/topics/talk").header("accept", "text/html");
    let answer = kit::send(&router, request.body(Body::empty()).expect("a request")).await;
    assert_problem(&kit::json(answer).await, 406, "decode");
}

#[tokio::test]
async fn streams_over_the_bound_are_refused() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.sessions_max = 1;
    let router = stage.gateway().limits(limits).router();
    let _open = Events::open(&router, "/topics/orders", None).await;

    assert_problem(&get(&router, "/topics/orders").await, 429, "overloaded");
}
