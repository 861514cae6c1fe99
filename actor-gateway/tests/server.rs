//! The server below the routes: problems, bounds, and its end.

use std::{net::SocketAddr, time::Duration};

use actor_gateway::{Limits, ServeConfig, Server};
use axum::{Router, routing::get};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::kit::{Stage, soon};

/// Sends bytes and returns all that comes back until the other side closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("a connection");
    tcp.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A reset after the answer is fine: the answer is what counts.
    drop(soon("an answer", tcp.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

fn problem(answer: &str) -> (u16, Value) {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |parts| parts.1);
    (
        status.unwrap_or(0),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;

    let request = "GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (status, problem) = problem(&raw(served.address, request).await);

    assert_eq!(
        (status, &problem["kind"]),
        (404, &"not_hosted".into()),
        "{problem}"
    );
}

#[tokio::test]
async fn a_head_that_does_not_arrive_closes_the_connection() {
    let stage = Stage::new().await;
    let mut config = ServeConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.header_read_timeout = Duration::from_millis(50);
    let served = stage.serve_with(config, stage.router()).await;

    let answer = raw(served.address, "GET /health/live HTTP/1.1\r\nhost: loc").await;

    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_head_over_the_bound_is_431() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let long = "x".repeat(100_000);

    let request = format!("GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n");
    let answer = raw(served.address, &request).await;

    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_never_answers_is_504() {
    let stage = Stage::new().await;
    let mut config = ServeConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.request_timeout = Duration::from_millis(50);
    let stuck = Router::new().route("/stuck", get(std::future::pending::<()>));
    let served = stage.serve_with(config, stuck).await;

    let request = "GET /stuck HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (status, problem) = problem(&raw(served.address, request).await);

    assert_eq!((status, &problem["kind"]), (504, &"timeout".into()));
}

#[tokio::test]
async fn a_drain_finishes_requests_in_flight_and_refuses_new_ones() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let address = served.address;
    let request =
        "POST /entities/log/a/wait HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let in_flight = tokio::spawn(async move { raw(address, request).await });
    let log = stage
        .node
        .client()
        .hosting()
        .hosted("log")
        .expect("hosted")
        .clone();
    crate::kit::until("the call to run", || log.stats().mailbox_depth == 1).await;

    served.drain.begin();
    stage.gate.0.notify_one();

    let answer = soon("the answer", in_flight).await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    soon("the server to end", served.ended).await.expect("ends");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_event_stream_ends_with_the_server() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let address = served.address;
    let request = "GET /topics/orders HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let stream = tokio::spawn(async move { raw(address, request).await });
    crate::kit::until("the stream to open", || served.drain.residents() == 1).await;

    served.drain.begin();

    let answer = soon("the end", stream).await.expect("no panic");
    assert!(answer.contains("retry: "), "{answer}");
    soon("the server to end", served.ended).await.expect("ends");
}

#[tokio::test]
async fn an_admins_drain_stops_the_server() {
    let stage = Stage::new().await;
    let served = stage.serve(Limits::default()).await;
    let node = stage.node.name();

    let request = format!(
        "POST /admin/api/nodes/{node}/drain HTTP/1.1\r\n\
         host: localhost\r\ncontent-length: 0\r\n\r\n"
    );
    let answer = raw(served.address, &request).await;

    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    soon("the server to end", served.ended).await.expect("ends");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");

    let error = Server::bind(ServeConfig::new(address), Router::new())
        .await
        .expect_err("taken");

    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(
        text.contains("ACTOR_HTTP_LISTEN") && text.contains(&address.to_string()),
        "{text}"
    );
}
