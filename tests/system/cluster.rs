//! Three nodes on one PostgreSQL: killed, frozen and stopped under load.
//!
//! Each client changes stock under keys at whichever node it likes, and repeats a change until it
//! is answered. What the clients were told is what must be true.

mod certificates;
mod chaos;
mod dashboard;
mod database;
mod frozen;
mod kills;
mod links;
mod load;
mod nodes;
mod old_rows;
mod once;
mod records;
mod sagas;
mod upgrade;

use actor_tests::{Context, Deadline, Metrics, Result, Seed};
use serde_json::json;

use self::{
    load::{Load, SKUS},
    nodes::Cluster,
};
use crate::shop::{call, level, succeed};

async fn check(cluster: &mut Cluster, load: &Load) -> Result<()> {
    let wanted = load.levels();
    for node in 0..cluster.len() {
        for sku in SKUS {
            let found = level(cluster.http(node), sku).await?;
            let expected = wanted.get(sku).copied().unwrap_or_default();
            assert_eq!(
                found, expected,
                "the level of {sku} asked for at node {node}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_serves_every_entity_whoever_owns_it() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;

    let load = Load::start(&cluster, Seed::from_env("--test system cluster")?);
    load.answered(300).await?;
    let errors = load.finish().await?;
    check(&mut cluster, &load).await?;

    let mut owned = Vec::new();
    for node in 0..3 {
        owned.push(cluster.metric(node, "actor_shards_owned").await?);
    }
    println!("{} answers of nodes with {owned:?} shards", load.count());
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}

// SHD-9
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_hands_over_and_nobody_notices() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    // Its own listener goes away with it: the load stays with the other two.
    let load = Load::start_at(&cluster, Seed::from_env("--test system cluster")?, &[0, 1]);
    load.answered(200).await?;
    let shards = cluster.metric(2, "actor_shards_owned").await?;

    let open = load.open();
    cluster.terminate(2).await?;
    load.answered(200).await?;
    cluster.start_again(2).await?;
    load.answered(400).await?;
    let errors = load.finish().await?;
    check(&mut cluster, &load).await?;

    println!("stopped with {shards} shards and {open} requests open");
    assert!(shards > 0.0 && open > 0, "the test showed nothing");
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_the_same_name_is_refused() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;

    let ended = cluster.program(0).run(Deadline::seconds(30)).await?;

    assert_eq!(ended.code, Some(2));
    let said = ended.err.join("\n");
    assert!(said.contains("ACTOR_NODE_NAME"), "{said}");
    let metrics = Metrics::parse(&cluster.http(0).text("/metrics").await?)?;
    let owned = metrics.sum("actor_shards_owned").context("the gauge")?;
    assert!(owned > 0.0, "the first one goes on");
    cluster.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_secret_is_refused_where_others_are() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let stranger = cluster.program(0).clone().without("ACTOR_CLUSTER_SECRET");

    let ended = stranger
        .setting("ACTOR_NODE_NAME", "stranger")
        .run(Deadline::seconds(30))
        .await?;

    assert_eq!(ended.code, Some(2));
    let said = ended.err.join("\n");
    assert!(said.contains("ACTOR_CLUSTER_SECRET is not set"), "{said}");
    cluster.stop().await
}

/// It would own shards that nobody reaches.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_is_refused_where_others_are() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let stranger = cluster.program(0).clone();

    let ended = stranger
        .setting("ACTOR_NODE_NAME", "stranger")
        .setting("ACTOR_CLUSTER_SECRET", "known to somebody else")
        .run(Deadline::seconds(30))
        .await?;

    assert_eq!(ended.code, Some(2));
    let said = ended.err.join("\n");
    assert!(said.contains("ACTOR_CLUSTER_SECRET"), "{said}");
    let seen = cluster.seen(0).await?;
    let nodes = seen["nodes"].as_array().map_or(0, Vec::len);
    assert_eq!(nodes, 1, "it never registered");
    cluster.stop().await
}

/// Falls in a row after which a node gets its shards ten seconds late.
const FALLS: usize = 4;

// What a pod is asked before it gets requests: it must not be kept from them as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fell_again_and_again_is_ready_before_it_has_shards() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let restock = call("stock", "string", "restock", &json!({ "quantity": 5 })).key("once");
    assert_eq!(succeed(cluster.http(0), &restock).await?, 5);

    for _ in 0..FALLS {
        cluster.kill(1).await?;
        cluster.start_again(1).await?;
    }

    // Only a node without shards says so.
    let said = cluster.http(1).text("/health/ready").await?;
    let why = format!("the node fell {FALLS} times in a row");
    assert!(said.contains(&why), "{said}");
    assert_eq!(level(cluster.http(1), "string").await?, 5);
    cluster.is_balanced().await?;
    cluster.stop().await
}
