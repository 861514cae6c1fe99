//! What orchestrators and monitoring read.

use std::time::Duration;

use axum::{Router, body::Body, http::StatusCode};

use crate::kit::{self, Stage, get, post};

async fn metrics(router: &Router) -> String {
    let request = kit::request("GET", "/metrics").body(Body::empty());
    let answer = kit::send(router, request.expect("a request")).await;
    String::from_utf8(kit::body(answer).await).expect("text")
}

#[tokio::test]
async fn a_ready_node_says_so_and_a_draining_one_does_not() {
    let stage = Stage::new().await;
    let router = stage.router();
    for probe in ["live", "startup", "ready"] {
        let (status, report) = get(&router, &format!("/health/{probe}")).await;
        assert_eq!(
            (status, &report["status"]),
            (StatusCode::OK, &"ok".into()),
            "{report}"
        );
    }

    stage.node.drain().await;

    assert_eq!(
        get(&router, "/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(get(&router, "/health/startup").await.0, StatusCode::OK);
    assert_eq!(get(&router, "/health/live").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_calls_and_always_say_what_is_stuck() {
    let stage = Stage::new().await;
    let router = stage.router();
    post(&router, "/entities/stock/tea/restock", r#"{"quantity":1}"#).await;

    let text = metrics(&router).await;

    assert!(text.contains(r#"actor_stuck{what="message"} 0"#), "{text}");
    assert!(text.contains(r#"actor_stuck{what="unowned"} 0"#), "{text}");
    assert!(text.contains("actor_singletons "), "{text}");
    let calls = r#"actor_calls_total{kind="stock",method="restock",outcome="ok"}"#;
    assert!(text.contains(calls), "{text}");
    assert!(text.contains("actor_sessions 0"), "{text}");
    assert!(text.contains("actor_nodes 1"), "{text}");
    assert!(text.contains("actor_shards_owned 512"), "{text}");
    assert!(
        text.contains(r#"actor_links{direction="dialled"} 0"#),
        "{text}"
    );
    assert!(!text.contains("tea"), "an id became a label: {text}");
}

#[tokio::test]
async fn a_histogram_has_buckets() {
    let stage = Stage::new().await;
    let router = stage.router();
    let tea = stage.node.client().entity::<kit::Stock>("tea");
    let soon = tea.restock(1).after(Duration::from_millis(1));
    soon.await.expect("stored");

    // Its timer rings in any case, also where the entity found the message before.
    let rung = async {
        let bucket = "actor_timer_lateness_bucket{le=\"0.01\"}";
        while !metrics(&router).await.contains(bucket) {
            tokio::task::yield_now().await;
        }
    };
    kit::soon("the timer", rung).await;

    let text = metrics(&router).await;
    assert!(
        text.contains("actor_commit_duration_bucket{le=\"0.01\"}"),
        "{text}"
    );
}
