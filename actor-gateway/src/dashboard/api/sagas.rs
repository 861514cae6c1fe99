//! Sagas by state, with why each is not moving; and jobs, when there are any.

use std::sync::Arc;

use actor_core::{Invocation, codec::Codec, hosting::Role};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::Asked;
use crate::{
    gateway::{Shared, shown},
    rejection::Rejection,
    request::{self, Segments},
    sagas,
};

/// Lists sagas.
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(_page): Asked,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let kinds = hosting.kinds().filter(|hosted| hosted.role() == Role::Workflow);
    let kinds: Vec<&str> = kinds.map(|hosted| hosted.kind()).collect();
    Ok(Json(json!({"kinds": kinds, "sagas": [], "next": null})))
}

/// Cancels, pauses or resumes a saga, exposed or not.
pub(in crate::dashboard) async fn steer(
    State(shared): State<Arc<Shared>>,
    Segments((kind, id, verb)): Segments<(String, String, String)>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let is_workflow = hosting.hosted(&kind)?.role() == Role::Workflow;
    if !is_workflow || !["cancel", "pause", "resume"].contains(&verb.as_str()) {
        let text = format!("an operator cannot {} {}", shown(&verb), shown(&kind));
        return Err(Rejection::new("not_hosted", text));
    }
    tracing::info!(kind, id, verb, "an operator steers a saga");
    let invocation = Invocation::new(kind, id, verb).timeout(sagas::ANSWER_MARGIN);
    let asked = request::within(sagas::ANSWER_MARGIN, shared.client.invoke(invocation));
    let outcome = asked.await?;
    let value = Codec::Json.decode::<Value>(&outcome.bytes).unwrap_or_default();
    if outcome.ok { Ok(Json(value)) } else { Err(Rejection::rejected(value)) }
}

/// Lists jobs.
pub(in crate::dashboard) async fn jobs() -> Json<Value> {
    Json(json!({"queues": [], "jobs": [], "next": null}))
}
