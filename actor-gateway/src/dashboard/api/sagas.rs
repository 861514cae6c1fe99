//! Sagas by state, with why each is not moving; and jobs, when there are any.

use std::{collections::BTreeMap, sync::Arc};

use actor_core::{Invocation, codec::Codec, hosting::Role};
use actor_workflow::{SagaClient, overview::Query, saga};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::Asked;
use crate::{
    gateway::{Shared, shown},
    rejection::Rejection,
    request::{self, Segments},
    sagas,
};

/// Lists sagas of one kind, else of all kinds, each kind its newest page.
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(page): Asked,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let kinds = hosting
        .kinds()
        .filter(|hosted| hosted.role() == Role::Workflow);
    let kinds: Vec<&str> = kinds.map(|hosted| hosted.kind()).collect();
    let state = page.state.as_deref().filter(|state| !state.is_empty());
    let unknown =
        |word: &str| Rejection::new("decode", format_args!("there is no state {}", shown(word)));
    let state = state
        .map(|word| saga::State::parse(word).ok_or_else(|| unknown(word)))
        .transpose()?;
    let overview = shared.client.sagas();
    let mut sagas = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| page.kind.as_deref().is_none_or(|one| one == **kind))
    {
        let mut query = Query::of(*kind);
        (query.state, query.limit) = (state, page.limit() as u32);
        query.after.clone_from(&page.after);
        sagas.extend(overview.runs(query).await?);
    }
    let next = page.kind.as_ref().filter(|_| sagas.len() == page.limit());
    let next = next.and_then(|_| sagas.last()).map(|line| line.id.clone());
    let mut counts = BTreeMap::new();
    for count in overview.counts().await? {
        *counts.entry(count.state).or_insert(0) += count.runs;
    }
    sagas.sort_by_key(|line| std::cmp::Reverse(line.updated_at));
    Ok(Json(
        json!({"kinds": kinds, "counts": counts, "sagas": sagas, "next": next}),
    ))
}

/// Returns a saga's journal as a timeline.
pub(in crate::dashboard) async fn journal(
    State(shared): State<Arc<Shared>>,
    Segments((kind, id)): Segments<(String, String)>,
    Asked(page): Asked,
) -> Result<Json<Value>, Rejection> {
    let after = match page.after.as_str() {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| Rejection::new("decode", "`after` is not a number"))?,
    };
    let points = shared.client.sagas().journal(&kind, &id, after).await?;
    Ok(Json(json!({"kind": kind, "id": id, "journal": points})))
}

/// Cancels, pauses or resumes a saga, exposed or not.
pub(in crate::dashboard) async fn steer(
    State(shared): State<Arc<Shared>>,
    Segments((kind, id, verb)): Segments<(String, String, String)>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let role = match hosting.hosted(&kind) {
        Ok(hosted) => hosted.role(),
        Err(_) => {
            let deadline = hosting.deadline(sagas::ANSWER_MARGIN);
            hosting.find_kind(&kind, deadline).await?.role
        }
    };
    let is_workflow = role == Role::Workflow;
    if !is_workflow || !["cancel", "pause", "resume"].contains(&verb.as_str()) {
        let text = format!("an operator cannot {} {}", shown(&verb), shown(&kind));
        return Err(Rejection::new("not_hosted", text));
    }
    tracing::info!(kind, id, verb, "an operator steers a saga");
    let invocation = Invocation::new(kind, id, verb).timeout(sagas::ANSWER_MARGIN);
    let asked = request::within(sagas::ANSWER_MARGIN, shared.client.invoke(invocation));
    let outcome = asked.await?;
    let value = Codec::Json
        .decode::<Value>(&outcome.bytes)
        .unwrap_or_default();
    if outcome.ok {
        Ok(Json(value))
    } else {
        Err(Rejection::rejected(value))
    }
}

/// Lists jobs.
pub(in crate::dashboard) async fn jobs() -> Json<Value> {
    Json(json!({"queues": [], "jobs": [], "next": null}))
}
