//! Nodes, their leases, and who owns which shard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor_cluster::{
    node::SingletonStatus,
    shard::candidates,
    transport::{Direction, LinkSnapshot},
};
use actor_core::{
    hosting::Hosting,
    id::{Incarnation, NodeId},
    store::{
        kinds::{self, Catalog},
        nodes::{self, NodeRow},
        ownership::{self, ShardRow},
        tables,
    },
};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{reports, store};
use crate::{gateway::Shared, rejection::Rejection};

/// Lists all nodes that ever registered, with this node's links to them, what changed lately, who
/// runs which singleton, and how healthy the tables are (`null` on SQLite).
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let rows = hosting
        .store()
        .read("nodes for the dashboard", |connection| {
            Box::pin(async move {
                let nodes = nodes::list(connection).await?;
                let shards = ownership::list(connection).await?;
                let catalog = kinds::list(connection).await?;
                Ok((nodes, shards, catalog, tables::health(connection).await?))
            })
        });
    let (rows, shards, catalog, tables) = rows.await.map_err(store)?;
    let cluster = shared.cluster();
    let singletons: Vec<_> = cluster
        .singletons
        .iter()
        .map(|singleton| once(singleton, &shards))
        .collect();
    let (mut owned, count) = (BTreeMap::new(), shards.len());
    for life in shards.into_iter().filter_map(|row| row.owner) {
        *owned.entry(life).or_insert(0_u32) += 1;
    }
    let stuck = shared.stuck.count(hosting).await;
    let reports = reports::of_all(&shared).await;
    let nodes = rows.into_iter().map(|row| {
        let shards = owned.get(&(row.node.clone(), row.incarnation)).copied();
        let link = dialled(&cluster.links, &row.node, row.incarnation);
        let mut about = about(hosting, &row, shards.unwrap_or(0), link);
        let groups = row.groups.iter().map(|group| catalog.name(*group));
        about["groups"] = json!(groups.collect::<Vec<_>>());
        about["progress"] = reports.progress(&row);
        about
    });
    let nodes: Vec<Value> = nodes.collect();
    Ok(Json(json!({
        "self": hosting.shards().node().as_str(),
        "now_ms": hosting.store().now_ms(),
        "version": env!("CARGO_PKG_VERSION"),
        "shards": count,
        "sessions": shared.sessions.count(),
        "stuck": stuck.map(|here| here + cluster.stuck_unowned),
        "draining": hosting.accepting().is_err(),
        "resting": shared.rests(),
        "lease_ttl_ms": shared.lease_ttl().map(|ttl| ttl.as_millis() as u64),
        "nodes": nodes,
        "links": cluster.links,
        "changes": cluster.changes,
        "events": reports.events(),
        "singletons": singletons,
        "tables": tables.map(|tables| json!({
            "oldest_xmin_age_ms": tables.oldest_snapshot.as_millis() as u64,
            "dead_rows": tables.dead_rows.into_iter().collect::<BTreeMap<_, _>>(),
        })),
    })))
}

/// Says which node runs a singleton, and what it does at this one.
fn once(singleton: &SingletonStatus, shards: &[ShardRow]) -> Value {
    let row = shards.iter().find(|row| row.shard.0 == singleton.shard);
    let owner = row.and_then(|row| row.owner.as_ref());
    let mut about = json!(singleton);
    about["owner"] = json!(owner.map(|(node, _)| node.as_str()));
    about
}

fn about(hosting: &Hosting, row: &NodeRow, shards: u32, link: Option<&LinkSnapshot>) -> Value {
    let now = hosting.store().now_ms();
    let own = (hosting.shards().node(), hosting.shards().incarnation());
    let is_self = (&row.node, row.incarnation) == own;
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
        "shards_owned": shards,
        "weight": row.weight,
        "paused_ms": candidates::pause(row.falls).saturating_sub(row.age).as_millis() as u64,
        "link": link.map(|link| link.state),
    })
}

/// Returns the link this node dialled to that life of another one.
fn dialled<'a>(
    links: &'a [LinkSnapshot],
    node: &NodeId,
    life: Incarnation,
) -> Option<&'a LinkSnapshot> {
    links.iter().find(|link| {
        link.direction == Direction::Dialled
            && (link.node.as_str(), link.incarnation) == (node.as_str(), life.0)
    })
}

/// Lists all shards with their owners and epochs, and what is on its way to another owner.
pub(in crate::dashboard) async fn shards(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Rejection> {
    let hosting = shared.client.hosting();
    let rows = hosting
        .store()
        .read("shards for the dashboard", |connection| {
            Box::pin(async move {
                let rows = ownership::list(connection).await?;
                Ok((rows, kinds::list(connection).await?))
            })
        });
    let (rows, catalog) = rows.await.map_err(store)?;
    let (all, each) = (rows.len(), hosting.groups().count());
    let leaving = reports::of_all(&shared).await.leaving();
    let (mut moving, mut unowned) = (0, 0);
    let shards = rows.into_iter().map(|row| {
        let leaves = leaving.contains(&row.shard.0);
        moving += u32::from(leaves);
        unowned += u32::from(row.owner.is_none());
        let (owner, life) = row
            .owner
            .map(|(node, life)| (node.to_string(), life.0))
            .unzip();
        json!({
            "shard": row.shard,
            "group": catalog.name(row.shard.group(each)),
            "owner": owner,
            "incarnation": life,
            "epoch": row.epoch,
            "moving": leaves,
        })
    });
    let shards: Vec<Value> = shards.collect();
    Ok(Json(json!({
        "count": all,
        "groups": groups(&catalog, each),
        "moving": moving,
        "unowned": unowned,
        "shards": shards,
    })))
}

/// Says which shards each group has: `count` of them, from `first` on.
fn groups(catalog: &Catalog, count: u32) -> Value {
    let numbered = (0_u32..).zip(catalog.groups());
    numbered
        .map(|(number, name)| json!({"group": name, "first": number * count, "count": count}))
        .collect()
}
