//! Topics: where they are, and who listens here.

use std::sync::Arc;

use actor_core::store::topics;
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Asked, store};
use crate::{
    gateway::{Shared, TopicAccess},
    rejection::Rejection,
};

/// Lists topics by name.
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(page): Asked,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let (after, limit) = (page.after.clone(), page.limit() as u32);
    let rows = hosting
        .store()
        .read("topics for the dashboard", move |connection| {
            Box::pin(async move { topics::list(connection, &after, limit).await })
        });
    let rows = rows.await.map_err(store)?;
    let next = rows
        .last()
        .filter(|_| rows.len() == page.limit())
        .map(|row| row.0.clone());
    let mut listeners = hosting.topics().counts();
    let access = |topic: &str| match shared.topics().get(topic) {
        Some(TopicAccess::Listen) => "listen",
        Some(TopicAccess::Publish) => "publish",
        None => "internal",
    };
    let mut found: Vec<Value> = Vec::new();
    for (topic, position) in rows {
        found.push(json!({
            "topic": topic,
            "epoch": position.epoch,
            "offset": position.offset,
            "subscribers": listeners.remove(topic.as_str()).unwrap_or(0),
            "access": access(&topic),
        }));
    }
    if page.after.is_empty() && next.is_none() {
        // Topics that are listened to but were never announced have no row.
        found.extend(listeners.into_iter().map(|(topic, count)| {
            json!({"topic": &*topic, "epoch": 0, "offset": 0, "subscribers": count,
                "access": access(&topic)})
        }));
    }
    Ok(Json(json!({"topics": found, "next": next})))
}
