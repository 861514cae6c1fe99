//! Every kind of error reaches the outside with its documented status.

use std::time::Duration;

use actor_core::Refusal;
use actor_gateway::{Limits, Operation, Visitor, gateway::Guard};
use axum::{
    body::Body,
    http::{StatusCode, request::Parts},
};
use futures_util::{StreamExt, future::BoxFuture};
use serde_json::json;

use crate::kit::{self, Stage, assert_problem, get, post};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_call_answers_with_the_handlers_value() {
    let stage = Stage::new().await;
    let router = stage.router();

    let answer = post(&router, "/entities/stock/tea/restock", r#"{"quantity":3}"#).await;

    assert_eq!(answer, (StatusCode::OK, json!(3)));
}

#[tokio::test]
async fn a_handlers_own_error_is_422_and_whole() {
    let stage = Stage::new().await;

    let answer = post(
        &stage.router(),
        "/entities/stock/tea/take",
        r#"{"quantity":3}"#,
    )
    .await;

    assert_problem(&answer, 422, "rejected");
    assert_eq!(answer.1["error"], json!({"message": "sold out", "left": 0}));
    assert_eq!(answer.1["detail"], "sold out");
}

#[tokio::test]
async fn what_cannot_be_read_is_400_and_named() {
    let stage = Stage::new().await;
    let router = stage.router();
    let bodies = [
        "{",
        "[1]",
        r#"{"quantity":"many"}"#,
        r#"{"quantity":-1}"#,
        r#"{"amount":1}"#,
        "{}",
        "",
        r#"{"quantity":1,"more":2}"#,
    ];
    for body in bodies {
        let answer = post(&router, "/entities/stock/tea/restock", body).await;

        assert_problem(&answer, 400, "decode");
    }
    let answer = post(&router, "/entities/stock/tea/restock?timeout_ms=soon", "{}").await;
    assert_problem(&answer, 400, "decode");
    let answer = post(&router, "/entities/stock/%ff/level", "{}").await;
    assert_problem(&answer, 400, "decode");
    let long = "x".repeat(600);
    assert_problem(
        &post(&router, &format!("/entities/stock/{long}/level"), "{}").await,
        400,
        "decode",
    );
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_exposed_look_the_same() {
    let stage = Stage::new().await;
    let router = stage.router();

    for path in [
        "/entities/nothing/a/b",
        "/entities/hidden/a/secret",
        "/entities/stock/a/dance",
    ] {
        assert_problem(&post(&router, path, "{}").await, 404, "not_hosted");
    }
    let (_, absent) = post(&router, "/entities/nothing/a/secret", "{}").await;
    let (_, hidden) = post(&router, "/entities/hidden/a/secret", "{}").await;
    let name = |text: &serde_json::Value| text["detail"].to_string().replace("nothing", "hidden");
    assert_eq!(name(&absent), name(&hidden));
}

#[tokio::test]
async fn an_oversize_body_is_413() {
    let stage = Stage::new().await;
    let router = stage.router();
    let body = format!(r#"{{"quantity":1,"x":"{}"}}"#, "y".repeat(1024 * 1024));

    assert_problem(
        &post(&router, "/entities/stock/tea/restock", &body).await,
        413,
        "too_large",
    );
    let request = kit::request("POST", "/entities/stock/tea/bloat").header("idempotency-key", "k");
    let response = kit::send(&router, request.body(Body::empty()).expect("a request")).await;
    assert_problem(&kit::json(response).await, 413, "too_large");
}

#[tokio::test]
async fn a_body_of_another_type_is_415() {
    let stage = Stage::new().await;
    for content_type in [Some("application/x-www-form-urlencoded"), None] {
        let mut request = kit::request("POST", "/entities/stock/tea/restock");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request
            .body(Body::from(r#"{"quantity":1}"#))
            .expect("a request");

        let answer = kit::json(kit::send(&stage.router(), request).await).await;

        assert_problem(&answer, 415, "decode");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405() {
    let stage = Stage::new().await;

    assert_problem(
        &get(&stage.router(), "/entities/stock/tea/level").await,
        405,
        "not_hosted",
    );
}

#[tokio::test]
async fn a_crash_is_500_and_the_entity_goes_on() {
    let stage = Stage::new().await;
    let router = stage.router();

    assert_problem(
        &post(&router, "/entities/stock/tea/explode", "{}").await,
        500,
        "crashed",
    );
    let after = post(&router, "/entities/stock/tea/restock", r#"{"quantity":1}"#).await;
    assert_eq!(after, (StatusCode::OK, json!(1)));
}

#[tokio::test]
async fn a_cycle_is_named_to_the_handler() {
    let stage = Stage::new().await;

    let answer = post(&stage.router(), "/entities/stock/tea/ask_itself", "{}").await;

    assert_eq!(answer, (StatusCode::OK, json!("cycle")));
}

#[tokio::test]
async fn a_key_counts_once_and_cannot_be_used_for_something_else() {
    let stage = Stage::new().await;
    let router = stage.router();
    let restock = |quantity: u32| {
        let request = kit::request("POST", "/entities/stock/tea/restock")
            .header("content-type", JSON)
            .header("idempotency-key", "delivery-7");
        let body = Body::from(format!(r#"{{"quantity":{quantity}}}"#));
        let request = request.body(body).expect("a request");
        let router = router.clone();
        async move { kit::json(kit::send(&router, request).await).await }
    };

    assert_eq!(restock(5).await, (StatusCode::OK, json!(5)));
    assert_eq!(restock(5).await, (StatusCode::OK, json!(5)));
    assert_problem(&restock(6).await, 409, "key_reused");
}

#[tokio::test]
async fn a_deadline_is_504_and_says_whether_the_handler_began() {
    let stage = Stage::new().await;
    let router = stage.router();

    let began = post(&router, "/entities/log/a/wait?timeout_ms=20", "{}").await;
    let queued = post(&router, "/entities/log/a/wait?timeout_ms=20", "{}").await;

    assert_problem(&began, 504, "timeout");
    assert_eq!(began.1["started"], true);
    assert_problem(&queued, 504, "timeout");
    assert_eq!(queued.1["started"], false);
}

#[tokio::test]
async fn a_preference_sets_the_deadline_too() {
    let stage = Stage::new().await;
    let request = kit::request("POST", "/entities/log/a/wait")
        .header("prefer", "wait=0")
        .body(Body::empty())
        .expect("a request");

    assert_problem(
        &kit::json(kit::send(&stage.router(), request).await).await,
        504,
        "timeout",
    );
}

#[tokio::test]
async fn a_full_mailbox_is_429_with_a_time_to_retry() {
    let stage = Stage::new().await;
    let router = stage.router();
    let casts = [0, 1]
        .map(|_| kit::request("POST", "/entities/log/a/wait").header("prefer", "respond-async"));
    for cast in casts {
        let response = kit::send(&router, cast.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()["preference-applied"], "respond-async");
    }

    let request = kit::request("POST", "/entities/log/a/lines").body(Body::empty());
    let response = kit::send(&router, request.expect("a request")).await;

    assert!(response.headers().contains_key("retry-after"));
    assert_problem(&kit::json(response).await, 429, "overloaded");
}

#[tokio::test]
async fn a_draining_node_is_503() {
    let stage = Stage::new().await;
    let router = stage.router();
    stage.node.drain().await;

    let answer = post(&router, "/entities/stock/tea/restock", r#"{"quantity":1}"#).await;

    assert_problem(&answer, 503, "unavailable");
}

/// Knows one name, and lets it do everything but restock.
struct Doorman;

impl Guard for Doorman {
    fn admit<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Result<Visitor, Refusal>> {
        let name = request
            .headers
            .get("x-name")
            .and_then(|name| name.to_str().ok());
        Box::pin(async move { name.map(Visitor::named).ok_or(Refusal::Unauthorized) })
    }

    fn permit(&self, _: &Visitor, operation: Operation<'_>) -> Result<(), Refusal> {
        match operation {
            Operation::Call {
                method: "restock", ..
            } => Err(Refusal::Forbidden),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn the_guard_sees_every_request_first() {
    let stage = Stage::new().await;
    let router = stage.gateway().guard(Doorman).router();
    let asked = |path: &str, name: Option<&str>| {
        let mut request = kit::request("POST", path).header("content-type", JSON);
        if let Some(name) = name {
            request = request.header("x-name", name);
        }
        let request = request
            .body(Body::from(r#"{"quantity":1}"#))
            .expect("a request");
        let router = router.clone();
        async move { kit::json(kit::send(&router, request).await).await }
    };

    for path in [
        "/entities/stock/a/restock",
        "/entities/nothing/a/b",
        "/sagas/a/b",
        "/topics/talk",
    ] {
        assert_problem(&asked(path, None).await, 401, "unauthorized");
    }
    assert_problem(
        &asked("/entities/stock/a/restock", Some("mo")).await,
        403,
        "forbidden",
    );
    assert_problem(
        &asked("/entities/stock/a/take", Some("mo")).await,
        422,
        "rejected",
    );
    assert_eq!(get(&router, "/health/live").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_request_carries_its_id_back() {
    let stage = Stage::new().await;
    let ask = |id: &'static str| {
        let request = kit::request("POST", "/entities/stock/a/level").header("x-request-id", id);
        let (request, router) = (
            request.body(Body::empty()).expect("a request"),
            stage.router(),
        );
        async move {
            let response = kit::send(&router, request).await;
            response.headers()["x-request-id"]
                .to_str()
                .expect("text")
                .to_owned()
        }
    };

    assert_eq!(ask("trace-me").await, "trace-me");
    assert_eq!(ask("two words").await.len(), 32);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408() {
    let stage = Stage::new().await;
    let mut limits = Limits::default();
    limits.body_read_timeout = Duration::from_millis(20);
    let router = stage.gateway().limits(limits).router();
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>("{\"quan")]);
    let endless = Body::from_stream(first.chain(futures_util::stream::pending()));
    let request = kit::request("POST", "/entities/stock/a/restock").header("content-type", JSON);

    let response = kit::send(&router, request.body(endless).expect("a request")).await;

    assert_problem(&kit::json(response).await, 408, "timeout");
}
