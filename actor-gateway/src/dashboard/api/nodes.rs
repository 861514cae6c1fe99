//! Nodes, their leases, and who owns which shard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor_core::store::{nodes, ownership};
use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::store;
use crate::{
    gateway::{Shared, shown},
    rejection::Rejection,
    request::Segments,
    topics,
};

/// The lease against which expiries are judged; a display, not a decision.
const LEASE: Duration = Duration::from_secs(300);

/// Lists all nodes that ever registered.
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let rows = hosting
        .store()
        .read("nodes for the dashboard", |connection| {
            Box::pin(async move {
                let nodes = nodes::list(connection, LEASE).await?;
                Ok((nodes, ownership::list(connection).await?))
            })
        });
    let (rows, shards) = rows.await.map_err(store)?;
    let mut owned = BTreeMap::new();
    for (node, life) in shards.into_iter().filter_map(|row| row.owner) {
        *owned.entry((node, life)).or_insert(0_u32) += 1;
    }
    let (own, now) = (hosting.shards().node(), hosting.store().now_ms());
    let nodes = rows.into_iter().map(|row| {
        let is_self = row.node == *own;
        // A node that is held by a lock renews nothing: what counts is what it knows itself.
        let lease_left = match is_self {
            true => hosting.shards().lease_left(hosting.now()),
            false => Some(row.lease_left),
        };
        let alive = lease_left.is_none_or(|left| left > Duration::ZERO);
        json!({
            "node": row.node.as_str(),
            "self": is_self,
            "incarnation": row.incarnation.0,
            "state": row.state.name(),
            "alive": alive,
            "lease_left_ms": lease_left.map(|left| left.as_millis() as u64),
            "address": row.address,
            "started_at_ms": row.started_at,
            "uptime_ms": if alive { Some((now - row.started_at).max(0)) } else { None },
            "shards_owned": owned.get(&(row.node, row.incarnation)).copied().unwrap_or(0),
        })
    });
    let nodes: Vec<Value> = nodes.collect();
    Ok(Json(json!({
        "self": own.as_str(),
        "now_ms": now,
        "version": env!("CARGO_PKG_VERSION"),
        "shards": hosting.shards().count(),
        "sessions": shared.sessions.count(),
        "stuck": shared.stuck.count(hosting).await,
        "draining": hosting.accepting().is_err(),
        "nodes": nodes,
    })))
}

/// Lists all shards with their owners and epochs.
pub(in crate::dashboard) async fn shards(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let rows = hosting
        .store()
        .read("shards for the dashboard", |connection| {
            Box::pin(async move { ownership::list(connection).await })
        });
    let rows = rows.await.map_err(store)?;
    let shards = rows.into_iter().map(|row| {
        let (owner, life) = row
            .owner
            .map(|(node, life)| (node.to_string(), life.0))
            .unzip();
        json!({"shard": row.shard, "owner": owner, "incarnation": life, "epoch": row.epoch})
    });
    let shards: Vec<Value> = shards.collect();
    Ok(Json(
        json!({"count": hosting.shards().count(), "shards": shards}),
    ))
}

/// Stops this node in order, as SIGTERM does.
pub(in crate::dashboard) async fn drain(
    State(shared): State<Arc<Shared>>,
    Segments(node): Segments<String>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Rejection> {
    let own = shared.client.hosting().shards().node().clone();
    if node != own.as_str() {
        let text = format!("this is node `{own}`, not {}: ask that node", shown(&node));
        return Err(Rejection::new("not_hosted", text));
    }
    let (mut parts, _) = request.into_parts();
    let drain = topics::drain(&mut parts, &shared).await;
    tracing::info!(node, "an operator drains the node");
    drain.begin();
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"node": node, "draining": true})),
    ))
}
