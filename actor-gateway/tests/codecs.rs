//! Bodies and answers in JSON and MessagePack.

use actor_core::codec::Codec;
use axum::{body::Body, http::StatusCode};
use serde_json::{Value, json};

use crate::kit::{self, Stage};

const JSON: &str = "application/json";
const PACKED: &str = "application/vnd.msgpack";

async fn call(
    stage: &Stage,
    method: &str,
    sent: &str,
    accept: Option<&str>,
) -> (StatusCode, String, Vec<u8>) {
    let codec = if sent == JSON {
        Codec::Json
    } else {
        Codec::Msgpack
    };
    let body = codec.encode(&json!({"quantity": 2})).expect("encodes");
    let mut request =
        kit::request("POST", &format!("/entities/stock/tea/{method}")).header("content-type", sent);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let response = kit::send(&stage.router(), request).await;
    let content_type = response.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    (response.status(), content_type, kit::body(response).await)
}

#[tokio::test]
async fn the_answer_comes_in_the_codec_asked_for_else_in_the_bodys() {
    let stage = Stage::new().await;
    let table = [
        (JSON, None, JSON),
        (PACKED, None, PACKED),
        (JSON, Some(PACKED), PACKED),
        ("application/msgpack", Some(JSON), JSON),
        (PACKED, Some("*/*"), PACKED),
    ];
    let mut level = 0;
    for (sent, accept, expected) in table {
        level += 2;

        let (status, content_type, body) = call(&stage, "restock", sent, accept).await;

        assert_eq!((status, content_type.as_str()), (StatusCode::OK, expected));
        let codec = if expected == JSON {
            Codec::Json
        } else {
            Codec::Msgpack
        };
        assert_eq!(codec.decode::<i64>(&body), Ok(level));
    }
}

#[tokio::test]
async fn an_error_is_always_json() {
    let stage = Stage::new().await;

    let (status, content_type, body) = call(&stage, "take", PACKED, Some(PACKED)).await;

    assert_eq!(
        (status.as_u16(), content_type.as_str()),
        (422, "application/problem+json")
    );
    let problem: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(problem["error"], json!({"message": "sold out", "left": 0}));
}
