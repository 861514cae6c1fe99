//! What operators do to nodes: drain one, call it back, rebalance.

use std::sync::Arc;

use actor_cluster::Node;
use actor_core::id::NodeId;
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

type Accepted = (StatusCode, Json<Value>);

/// Drains a node of the cluster, whichever node is asked: it gives its shards away and stays. A
/// node that is alone has nobody to give them to: it stops in order, as on SIGTERM.
pub(in crate::dashboard) async fn drain(
    State(shared): State<Arc<Shared>>,
    Segments(name): Segments<String>,
    request: Request,
) -> Result<Accepted, Rejection> {
    if let Some(node) = in_cluster(&shared) {
        return drain_in_cluster(node, &name).await;
    }
    if name != shared.client.hosting().shards().node().as_str() {
        return Err(nobody(&name));
    }
    let (mut parts, _) = request.into_parts();
    let drain = topics::drain(&mut parts, &shared).await;
    tracing::info!(node = name, "an operator stops the node");
    drain.begin();
    let happens = "it finishes what it does and ends its program";
    Ok(accepted(
        json!({"node": name, "draining": true, "happens": happens}),
    ))
}

async fn drain_in_cluster(node: &Node, name: &str) -> Result<Accepted, Rejection> {
    let asked = node.send_to_rest(&NodeId::new(name)).await;
    let Some(life) = asked.map_err(store)? else {
        return Err(nobody(name));
    };
    tracing::info!(node = name, "an operator drains the node");
    let happens = "its shards go to other nodes as what runs in them ends; it stays up, not \
                   ready, until its program starts anew or it is undrained; /admin/api/nodes \
                   shows how far it is";
    Ok(accepted(json!({
        "node": name,
        "incarnation": life.incarnation.0,
        "draining": true,
        "happens": happens,
    })))
}

/// Lets a drained node take shards again.
pub(in crate::dashboard) async fn undrain(
    State(shared): State<Arc<Shared>>,
    Segments(name): Segments<String>,
) -> Result<Accepted, Rejection> {
    let node = in_cluster(&shared).ok_or_else(|| nobody(&name))?;
    let asked = node.call_back(&NodeId::new(&name)).await;
    let Some(life) = asked.map_err(store)? else {
        return Err(nobody(&name));
    };
    tracing::info!(node = name, "an operator calls the node back");
    Ok(accepted(json!({
        "node": name,
        "incarnation": life.incarnation.0,
        "draining": false,
        "happens": "it takes its part of the shards",
    })))
}

/// Lets every node look now at who should own what.
pub(in crate::dashboard) async fn rebalance(State(shared): State<Arc<Shared>>) -> Accepted {
    let told = shared.node.as_ref().map_or(0, Node::rebalance);
    tracing::info!(told, "an operator rebalances");
    let happens =
        "every node compares who owns what with who should; moves are in /admin/api/shards";
    accepted(json!({"told": told, "happens": happens}))
}

/// Returns the node if it has a lease, so that there may be others.
fn in_cluster(shared: &Shared) -> Option<&Node> {
    let hosting = shared.client.hosting();
    let leased = hosting.shards().lease_left(hosting.now()).is_some();
    shared.node.as_ref().filter(|_| leased)
}

fn accepted(value: Value) -> Accepted {
    (StatusCode::ACCEPTED, Json(value))
}

fn nobody(name: &str) -> Rejection {
    let text = format!("no node {} is up, or it is stopping", shown(name));
    Rejection::new("not_hosted", text)
}
