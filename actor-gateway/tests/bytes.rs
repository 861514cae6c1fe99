//! Bodies and headers of any bytes: each request is answered with a documented status, and costs
//! nothing else.

use actor_core::{clock::Rng, codec::Codec};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode},
};
use serde_json::{Value, json};

use crate::kit::{self, Stage, assert_problem, get, post};

/// Bytes that mean something to JSON or MessagePack.
const MEANINGFUL: &[u8] = b"{}[]\",:\\0-\x80\xc1\xdf";

/// Returns `valid` with a few bytes changed, inserted or removed, or cut short.
fn spoiled(rng: &Rng, valid: &[u8]) -> Vec<u8> {
    let below = |bound: usize| rng.below(bound as u64) as usize;
    let mut bytes = valid.to_vec();
    for _ in 0..=below(3) {
        let at = below(bytes.len() + 1);
        match below(4) {
            0 => bytes.insert(at, MEANINGFUL[below(MEANINGFUL.len())]),
            1 if below(4) == 0 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] = rng.bits() as u8,
            _ => {}
        }
    }
    bytes
}

async fn sent(router: &Router, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let request = kit::request("POST", path)
        .header("content-type", kind)
        .header("accept", "application/json");
    let request = request.body(Body::from(body)).expect("a request");
    kit::json(kit::send(router, request).await).await
}

#[tokio::test]
async fn a_body_of_any_bytes_is_taken_or_refused() {
    let stage = Stage::new().await;
    let (router, rng) = (stage.router(), Rng::seeded(59));
    let (mut taken, mut refused) = (0, 0);
    for (path, object) in [
        ("/entities/diary/a/add", json!({"line": 7})),
        ("/topics/talk", json!({"text": "é", "list": [1, null]})),
    ] {
        for (codec, kind) in [
            (Codec::Json, "application/json"),
            (Codec::Msgpack, "application/msgpack"),
        ] {
            let valid = codec.encode(&object).expect("encodes");
            for _ in 0..400 {
                let answer = sent(&router, path, kind, spoiled(&rng, &valid)).await;
                if answer.0.is_success() {
                    taken += 1;
                } else {
                    refused += 1;
                    let documented = [(400, "decode"), (415, "decode")];
                    let kind = answer.1["kind"].as_str().unwrap_or_default();
                    let found = (answer.0.as_u16(), kind);
                    assert!(documented.contains(&found), "{path} {kind}: {answer:?}");
                }
            }
        }
    }

    assert!(taken > 20 && refused > 400, "{taken} {refused}");
    let after = post(&router, "/entities/diary/b/add", r#"{"line":1}"#).await;
    assert_eq!(after.0, StatusCode::OK);
    assert_eq!(get(&router, "/health/ready").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_last_event_id_of_any_bytes_is_followed_or_refused() {
    let stage = Stage::new().await;
    let (router, rng) = (stage.router(), Rng::seeded(61));
    stage.publish([1, 2]).await;
    let (mut followed, mut refused) = (0, 0);
    for _ in 0..400 {
        let Ok(id) = HeaderValue::from_bytes(&spoiled(&rng, b"1234567:1")) else {
            continue;
        };
        let asked = kit::request("GET", "/topics/orders")
            .header("accept", "text/event-stream")
            .header("last-event-id", id);
        let response = kit::send(&router, asked.body(Body::empty()).expect("a request")).await;
        if response.status().is_success() {
            followed += 1;
        } else {
            refused += 1;
            assert_problem(&kit::json(response).await, 400, "decode");
        }
    }

    assert!(followed > 20 && refused > 100, "{followed} {refused}");
}
