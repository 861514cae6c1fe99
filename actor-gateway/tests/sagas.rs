//! Saga routes over a kind that answers by name, as workflows do.

use axum::http::StatusCode;

use crate::kit::{Stage, assert_problem, get, post};

#[tokio::test]
async fn an_entity_is_no_saga_and_an_unknown_workflow_is_404() {
    let stage = Stage::new().await;
    let router = stage.router();

    assert_problem(
        &post(&router, "/sagas/stock/a", "{}").await,
        404,
        "not_hosted",
    );
    assert_problem(
        &get(&router, "/sagas/nothing/a?wait=1s").await,
        404,
        "not_hosted",
    );
    assert_problem(
        &get(&router, "/sagas/nothing/a?wait=soon").await,
        400,
        "decode",
    );
    let signal = post(&router, "/sagas/nothing/a/signals/go", "1").await;
    assert_problem(&signal, 404, "not_hosted");
    for verb in ["cancel", "pause", "resume"] {
        let path = format!("/sagas/nothing/a/{verb}");
        assert_problem(&post(&router, &path, "").await, 404, "not_hosted");
    }
    assert_eq!(get(&router, "/health/live").await.0, StatusCode::OK);
}
