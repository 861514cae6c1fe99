//! What operators see of a cluster, asked at each of its nodes.

use actor_tests::{Deadline, Failure, Metrics, Result, Seed};
use serde_json::Value;

use super::{
    load::Load,
    nodes::{Cluster, Plan, SHARDS, list},
};

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

// With links that are TLS, and with the default lease: a death is seen long before it runs out.
#[tokio::test(flavor = "multi_thread")]
async fn each_node_shows_the_whole_cluster_and_who_died() -> Result<()> {
    let plan = Plan {
        lease: "10s",
        proxied: false,
        secured: true,
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;

    for node in 0..3 {
        let whole = shows(&mut cluster, node, is_whole).await?;
        assert_eq!(whole["self"], format!("shop-{node}"));
        let itself = list(&whole, "nodes")
            .iter()
            .filter(|node| node["self"] == true);
        assert_eq!(itself.count(), 1, "{whole:#}");
        let links = list(&whole, "links");
        assert!(
            links.iter().all(|link| link["encrypted"] == true),
            "{whole:#}"
        );
        let text = cluster.http(node).text("/metrics").await?;
        let metrics = Metrics::parse(&text)?;
        assert_eq!(metrics.sum("actor_nodes"), Some(3.0));
        assert_eq!(metrics.sum("actor_links"), Some(4.0));
        assert!(metrics.sum("actor_oldest_xmin_age_seconds").is_some());
        assert!(
            text.contains(r#"actor_dead_rows{table="mailbox"}"#),
            "{text}"
        );
        assert!(
            whole["tables"]["dead_rows"]["mailbox"].is_u64(),
            "{whole:#}"
        );
        // The first links came up before the program recorded anything.
        let silent = r#"actor_link_envelopes_total{direction="out"} 0"#;
        assert!(text.contains("actor_link_envelopes_total"), "{text}");
        assert!(!text.contains(silent), "{text}");
    }
    cluster.kill(2).await?;
    for node in 0..2 {
        let took = |change: &Value| change["what"] == "took" && change["orphans"] != 0;
        let without = shows(&mut cluster, node, |seen| {
            let dead = |node: &Value| node["node"] == "shop-2" && node["alive"] == false;
            let changes = list(seen, "changes");
            let of_it = |event: &Value, what: &str| {
                event["what"] == what && event["node"] == "shop-2" && event["incarnation"] == 1
            };
            let events = list(seen, "events");
            list(seen, "nodes").iter().any(dead)
                && events.iter().any(|event| of_it(event, "declared_dead"))
                && changes.iter().any(|change| of_it(change, "went"))
                && changes.iter().any(took)
        });
        let without = without.await?;
        let links = list(&without, "links");
        let to_it = |link: &Value| link["node"] == "shop-2" && link["direction"] == "dialled";
        assert!(!links.iter().any(to_it), "{without:#}");
        println!(
            "node {node} shows {} events",
            list(&without, "events").len()
        );
    }
    cluster.start_again(2).await?;
    shows(&mut cluster, 0, is_whole).await?;
    cluster.stop().await
}

async fn ask(cluster: &mut Cluster, node: usize, path: &str) -> Result<(u16, Value)> {
    let request = actor_tests::Request::post(path, &Value::Null);
    let answer = cluster.http(node).send(&request, Deadline::seconds(20));
    let answer = answer
        .await
        .map_err(|error| Failure::new(format!("{path}: {error:?}")))?;
    let text = answer.text();
    let value = serde_json::from_str(&text).map_err(|error| Failure::new(error.to_string()))?;
    Ok((answer.status, value))
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_drains_any_other_and_calls_it_back() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let load = Load::start(&cluster, Seed::from_env("--test system cluster")?);
    load.answered(100).await?;

    let (open, shards) = (load.open(), cluster.metric(1, "actor_shards_owned").await?);
    let (status, said) = ask(&mut cluster, 0, "/admin/api/nodes/shop-1/drain").await?;
    assert_eq!((status, said["draining"].as_bool()), (202, Some(true)));
    let (again, _) = ask(&mut cluster, 2, "/admin/api/nodes/shop-1/drain").await?;
    assert_eq!(again, 202, "asked twice");
    let (unknown, _) = ask(&mut cluster, 0, "/admin/api/nodes/shop-9/drain").await?;
    assert_eq!(unknown, 404);
    let is = |seen: &Value, state: &str, shards: &dyn Fn(f64) -> bool| {
        list(seen, "nodes").iter().any(|node| {
            let owned = node["shards_owned"].as_f64().is_some_and(shards);
            node["node"] == "shop-1" && node["state"] == state && owned && node["alive"] == true
        })
    };
    let empty = shows(&mut cluster, 2, |seen| {
        is(seen, "resting", &|owned| owned == 0.0)
    })
    .await?;
    let rests = |event: &Value| event["what"] == "rests" && event["at"] == "shop-1";
    assert!(list(&empty, "events").iter().any(rests), "{empty:#}");
    let ready = actor_tests::Request::get("/health/ready");
    let ready = cluster.http(1).send(&ready, Deadline::seconds(20)).await;
    assert_eq!(ready.map(|answer| answer.status).ok(), Some(503));
    load.answered(200).await?;

    let (status, _) = ask(&mut cluster, 2, "/admin/api/nodes/shop-1/undrain").await?;
    assert_eq!(status, 202);
    shows(&mut cluster, 0, |seen| is(seen, "up", &|owned| owned > 0.0)).await?;
    let (status, said) = ask(&mut cluster, 0, "/admin/api/rebalance").await?;
    assert_eq!((status, said["told"].as_u64()), (202, Some(2)));
    let back = cluster.metric(1, "actor_shards_owned").await?;
    let errors = load.finish().await?;

    println!("drained of {shards} shards with {open} requests open; {back} came back so far");
    assert!(shards > 0.0 && open > 0, "the test showed nothing");
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}
