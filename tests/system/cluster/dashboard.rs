//! What operators see of a cluster, asked at each of its nodes.

use actor_tests::{Deadline, Failure, Metrics, Result};
use serde_json::Value;

use super::nodes::{Cluster, SHARDS};

/// How long it may take until a node shows what happened.
const SHOWN_SECONDS: u64 = 40;

/// Waits until what a node shows is as wanted.
async fn shows(
    cluster: &mut Cluster,
    node: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let by = Deadline::seconds(SHOWN_SECONDS);
    let mut last = Value::Null;
    while !by.is_past() {
        last = cluster.seen(node).await?;
        if wanted(&last) {
            return Ok(last);
        }
        tokio::task::yield_now().await;
    }
    Err(Failure::new(format!("node {node} shows {last:#}")))
}

pub(super) fn list<'a>(seen: &'a Value, name: &str) -> &'a [Value] {
    seen[name].as_array().map_or(&[], Vec::as_slice)
}

/// Says whether all three nodes are alive, own everything, and are linked with this one.
fn is_whole(seen: &Value) -> bool {
    let nodes = list(seen, "nodes");
    let owned: f64 = nodes
        .iter()
        .filter_map(|node| node["shards_owned"].as_f64())
        .sum();
    let there = |node: &Value| {
        let linked = node["self"] == true || node["link"] == "up";
        node["alive"] == true && node["shards_owned"] != 0 && linked
    };
    let links = list(seen, "links");
    let up = |direction: &str| {
        let of = |link: &&Value| link["direction"] == direction && link["state"] == "up";
        links.iter().filter(of).count()
    };
    let all_up = (up("dialled"), up("accepted")) == (2, 2);
    nodes.len() == 3 && owned == SHARDS && nodes.iter().all(there) && all_up
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_shows_the_whole_cluster_and_who_died() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    cluster.is_balanced().await?;

    for node in 0..3 {
        let whole = shows(&mut cluster, node, is_whole).await?;
        assert_eq!(whole["self"], format!("shop-{node}"));
        let itself = list(&whole, "nodes")
            .iter()
            .filter(|node| node["self"] == true);
        assert_eq!(itself.count(), 1, "{whole:#}");
        let text = cluster.http(node).text("/metrics").await?;
        let metrics = Metrics::parse(&text)?;
        assert_eq!(metrics.sum("actor_nodes"), Some(3.0));
        assert_eq!(metrics.sum("actor_links"), Some(4.0));
        // The first links came up before the program recorded anything.
        let silent = r#"actor_link_envelopes_total{direction="out"} 0"#;
        assert!(text.contains("actor_link_envelopes_total"), "{text}");
        assert!(!text.contains(silent), "{text}");
    }
    let drain = actor_tests::Request::post("/admin/api/nodes/shop-1/drain", &Value::Null);
    let refused = cluster.http(0).send(&drain, Deadline::seconds(20)).await;
    let refused = refused.map_err(|error| Failure::new(format!("{error:?}")))?;
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert!(
        refused.text().contains("drains itself"),
        "{}",
        refused.text()
    );

    cluster.kill(2).await?;
    for node in 0..2 {
        let took = |change: &Value| change["what"] == "took" && change["orphans"] != 0;
        let without = shows(&mut cluster, node, |seen| {
            let dead = |node: &Value| node["node"] == "shop-2" && node["alive"] == false;
            let changes = list(seen, "changes");
            let went = |change: &Value| change["what"] == "went" && change["node"] == "shop-2";
            list(seen, "nodes").iter().any(dead)
                && changes.iter().any(went)
                && changes.iter().any(took)
        });
        let without = without.await?;
        let links = list(&without, "links");
        let to_it = |link: &Value| link["node"] == "shop-2" && link["direction"] == "dialled";
        assert!(!links.iter().any(to_it), "{without:#}");
    }
    cluster.start_again(2).await?;
    shows(&mut cluster, 0, is_whole).await?;
    cluster.stop().await
}
