//! Singletons over real processes: the one that every cluster has, which sweeps.

use actor_tests::{Context, Deadline, Failure, Metrics, Result};
use serde_json::Value;

use super::nodes::Cluster;

/// How long it may take until another node runs it.
const FOLLOWS_SECONDS: u64 = 60;

/// Returns which of these nodes run the sweeper, each by its own account.
async fn sweepers(cluster: &mut Cluster, nodes: &[usize]) -> Result<Vec<usize>> {
    let mut runs = Vec::new();
    for node in nodes {
        let text = cluster.http(*node).text("/admin/api/nodes").await?;
        let seen: Value = serde_json::from_str(&text).context("the answer is JSON")?;
        let all = seen["singletons"].as_array().map_or(&[][..], Vec::as_slice);
        if all
            .iter()
            .any(|it| it["name"] == "actor:sweeper" && it["state"] == "runs")
        {
            runs.push(*node);
        }
    }
    Ok(runs)
}

/// Waits until one of these nodes runs it; two never do.
async fn sweeper(cluster: &mut Cluster, nodes: &[usize]) -> Result<usize> {
    let by = Deadline::seconds(FOLLOWS_SECONDS);
    while !by.is_past() {
        match *sweepers(cluster, nodes).await?.as_slice() {
            [] => tokio::task::yield_now().await,
            [one] => return Ok(one),
            ref many => return Err(Failure::new(format!("nodes {many:?} sweep at once"))),
        }
    }
    Err(Failure::new(format!("none of {nodes:?} sweeps")))
}

// SNG-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_singleton_runs_at_one_node_and_follows_kills_and_drains() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    cluster.is_balanced().await?;

    let first = sweeper(&mut cluster, &[0, 1, 2]).await?;
    cluster.kill(first).await?;
    let left: Vec<_> = (0..3).filter(|node| *node != first).collect();
    let second = sweeper(&mut cluster, &left).await?;
    cluster.terminate(second).await?;
    let last = 3 - first - second;
    let third = sweeper(&mut cluster, &[last]).await?;

    assert_eq!(third, last);
    let text = cluster.http(last).text("/metrics").await?;
    let metrics = Metrics::parse(&text)?;
    assert_eq!(metrics.sum("actor_singletons"), Some(1.0));
    println!("node {first} was killed, then {second} was stopped, then {third} swept");
    cluster.start_again(first).await?;
    cluster.start_again(second).await?;
    cluster.stop().await
}
