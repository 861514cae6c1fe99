//! Kinds with their counts, and their activations.

use std::sync::Arc;

use actor_core::hosting::{Hosted, Hosting, Target};
use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::Asked;
use crate::{gateway::Shared, rejection::Rejection};

/// Lists the kinds; with `?kind=` one kind's activations.
pub(in crate::dashboard) async fn entities(
    State(shared): State<Arc<Shared>>,
    Asked(page): Asked,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let Some(kind) = &page.kind else {
        let kinds: Vec<Value> = hosting
            .kinds()
            .map(|hosted| summary(hosted.as_ref()))
            .collect();
        return Ok(Json(json!({"kinds": kinds})));
    };
    let hosted = hosting.hosted(kind)?;
    let mut targets = hosted.targets();
    targets.retain(|target| target.id.as_str() > page.after.as_str());
    let more = targets.len() > page.limit();
    targets.truncate(page.limit());
    let next = targets
        .last()
        .filter(|_| more)
        .map(|target| target.id.to_string());
    let entities: Vec<Value> = targets
        .iter()
        .map(|target| activation(hosting, target))
        .collect();
    Ok(Json(
        json!({"kind": kind, "entities": entities, "next": next}),
    ))
}

fn summary(hosted: &dyn Hosted) -> Value {
    let stats = hosted.stats();
    let calls: Map<String, Value> = hosted
        .meter()
        .totals()
        .map(|(outcome, count)| (outcome.to_owned(), count.into()))
        .collect();
    let methods = hosted
        .methods()
        .iter()
        .filter(|method| method.callable)
        .map(|method| {
            json!({
                "name": method.name,
                "args": method.args,
                "writes": method.writes,
                "docs": method.docs,
            })
        });
    let methods: Vec<Value> = methods.collect();
    let events: Vec<&str> = hosted
        .events()
        .iter()
        .map(|handler| handler.event)
        .collect();
    json!({
        "kind": hosted.kind(),
        "role": hosted.role(),
        "exposed": hosted.exposed(),
        "resident": stats.resident,
        "mailbox_depth": stats.mailbox_depth,
        "restarts": hosted.meter().restarts(),
        "calls": calls,
        "methods": methods,
        "events": events,
    })
}

/// Tells of one activation.
pub(super) fn activation(hosting: &Hosting, target: &Target) -> Value {
    let idle = target
        .idle_since
        .map(|since| hosting.now().saturating_duration_since(since));
    json!({
        "id": target.id,
        "shard": target.shard,
        "depth": target.depth,
        "idle_ms": idle.map(|idle| idle.as_millis() as u64),
        "failures": target.failures,
    })
}
