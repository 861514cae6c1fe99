//! Statements about nodes and their shards, each in a transaction of its own.

use std::time::Duration;

use actor_core::{
    id::{Incarnation, NodeId, ShardId},
    store::{
        StoreError,
        nodes::{self, NodeState, Renewal},
        ownership::{self, Seen, Taken},
    },
};
use actor_tests::bed::{Bed, SHARDS, TTL};

pub(crate) async fn register(bed: &Bed, node: &'static str) -> Result<Incarnation, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::register(c, &NodeId::new(node), "host:1", TTL).await })
    });
    write.await
}

pub(crate) async fn renew(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<Option<Renewal>, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::renew(c, &NodeId::new(node), incarnation, TTL).await })
    });
    write.await
}

pub(crate) async fn take(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<Vec<Taken>, StoreError> {
    take_seen(bed, node, incarnation, Seen::default()).await
}

/// Takes what is free, having seen the leases of others.
pub(crate) async fn take_seen(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
    seen: Seen,
) -> Result<Vec<Taken>, StoreError> {
    let all: Vec<_> = (0..SHARDS).map(ShardId).collect();
    let write = bed.sql(move |c| {
        let node = NodeId::new(node);
        Box::pin(async move { ownership::take(c, &all, &node, incarnation, &seen).await })
    });
    write.await
}

pub(crate) async fn tombstone(
    bed: &Bed,
    node: &'static str,
    incarnation: Incarnation,
) -> Result<bool, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::tombstone(c, &NodeId::new(node), incarnation).await })
    });
    write.await
}

/// Returns how long the lease of `node` still holds, and its state.
pub(crate) async fn lease(bed: &Bed, node: &str) -> Result<(Duration, NodeState), StoreError> {
    let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
    let row = rows
        .into_iter()
        .find(|row| row.node.as_str() == node)
        .expect("a row");
    Ok((row.lease_left, row.state))
}
