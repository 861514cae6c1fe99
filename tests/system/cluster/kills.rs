//! Nodes that are killed one after another, under load and with messages waiting. Their leases are
//! long: whoever waited for one to run out would be late.

use std::{collections::BTreeMap, time::Duration};

use actor_core::store::Sql;
use actor_tests::{Context, Deadline, Failure, Http, Result, Seed, Stopwatch};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    check,
    load::Load,
    nodes::{Cluster, Plan},
};
use crate::shop::{call, level, send, succeed};

/// Rounds of killing one node after another.
const KILLS: usize = 6;

/// Twice the default. Renewed every third of it, so that two thirds are left when a node dies.
const LEASE: &str = "20s";

/// Nobody can own what a dead node had before this, but for its death being seen.
const EXPIRY_MIN: Duration = Duration::from_secs(13);

/// Until every entity answers again: far from what it takes, and from the end of the lease.
const IN_TIME: Duration = Duration::from_secs(9);

/// Entities asked for after a kill: some of each node.
const ENTITIES: usize = 32;

/// Stocks of a node that are sent messages before it is killed, and how many each.
const STOCKS: usize = 2;
const CASTS: usize = 32;

const WAITING: Sql = Sql::same("SELECT COUNT(*) FROM mailbox");

/// What the kills met, and what came of them.
#[derive(Debug, Default)]
struct Seen {
    /// Requests that were open.
    open: u64,
    /// Stored messages that waited.
    waiting: i64,
    /// Shards the dead nodes owned.
    shards: f64,
    /// Deaths that were seen and told before a lease ran out.
    declared: f64,
    /// How long it took until every entity answered again.
    gaps: Vec<Duration>,
    /// What the messages that were accepted add up to.
    cast: BTreeMap<String, i64>,
}

/// Sends messages to stocks of a node by way of another one, until all are accepted.
async fn cast(cluster: &Cluster, round: usize, to: usize, seen: &mut Seen) -> Result<()> {
    let by = (to + 1) % cluster.len();
    let at = cluster.addresses().borrow()[by].context("it runs")?;
    let mut clients = JoinSet::new();
    for sku in cluster.records.stocks_of(to, STOCKS).await? {
        for number in 0..CASTS {
            let request = call("stock", &sku, "restock", &json!({ "quantity": 1 }))
                .header("prefer", "respond-async")
                .key(&format!("{sku}-{round}-{number}"));
            clients.spawn(async move { send(&mut Http::to(at), &request).await });
        }
        *seen.cast.entry(sku).or_default() += CASTS as i64;
    }
    while let Some(answer) = clients.join_next().await {
        let answer = answer.context("a client broke")??;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    Ok(())
}

/// Returns how many deaths the others have told.
async fn declared(cluster: &mut Cluster, but: usize) -> Result<f64> {
    let mut sum = 0.0;
    for node in (0..cluster.len()).filter(|node| *node != but) {
        sum += cluster.metric(node, "actor_deaths_declared_total").await?;
    }
    Ok(sum)
}

/// Asks a survivor for many entities until all have answered; returns how long that took.
async fn answer_again(cluster: &mut Cluster, dead: usize) -> Result<Duration> {
    let began = Stopwatch::start();
    let other = (dead + 1) % cluster.len();
    let by = Deadline::seconds(40);
    for entity in 0..ENTITIES {
        let request = call("stock", &format!("sku-{entity}"), "level", &json!({}));
        loop {
            match cluster.http(other).send(&request, by).await {
                Ok(answer) if answer.status == 200 => break,
                other if by.is_past() => {
                    return Err(Failure::new(format!("sku-{entity}: {other:?}")));
                }
                _ => {}
            }
        }
    }
    Ok(began.elapsed())
}

/// Kills a node under load, waits until the others do its work, and starts it again.
async fn kill(cluster: &mut Cluster, load: &Load, round: usize, seen: &mut Seen) -> Result<()> {
    let node = round % cluster.len();
    // Only who had a link to a node can see it die.
    for other in 0..cluster.len() {
        cluster.is_linked(other).await?;
    }
    let before = declared(cluster, node).await?;
    seen.shards += cluster.metric(node, "actor_shards_owned").await?;
    cast(cluster, round, node, seen).await?;

    seen.open += load.open();
    cluster.kill(node).await?;
    seen.waiting += cluster.records.number(&WAITING, vec![]).await?;
    let gap = answer_again(cluster, node).await?;

    assert!(
        gap < IN_TIME,
        "{gap:.0?}, a lease lasts {EXPIRY_MIN:?} at least"
    );
    let told = Deadline::seconds(30).poll("a death that is told", async || {
        let more = declared(cluster, node).await.ok()? - before;
        (more > 0.0).then_some(more)
    });
    seen.declared += told.await?;
    seen.gaps.push(gap);
    cluster.start_again(node).await
}

/// Fails unless every message that was accepted was handled once, and nothing is left.
async fn check_casts(cluster: &mut Cluster, seen: &Seen) -> Result<()> {
    let by = Deadline::seconds(40);
    by.poll("an empty mailbox", async || {
        let left = cluster.records.number(&WAITING, vec![]).await.ok()?;
        (left == 0).then_some(())
    })
    .await?;
    for (sku, wanted) in &seen.cast {
        assert_eq!(level(cluster.http(0), sku).await?, *wanted, "{sku}");
    }
    for node in 0..cluster.len() {
        let stuck = cluster.metric(node, "actor_stuck").await?;
        assert_eq!(stuck, 0.0, "what is due and does not move at node {node}");
    }
    Ok(())
}

// SHD-9, MSG-17, MSG-19: a call in flight is answered once by the next owner, one that was answered
// is answered alike by whoever is asked again, and what was stored is handled once. Nobody waits
// for a lease to run out.
#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_lose_nothing_and_count_nothing_twice() -> Result<()> {
    let seed = Seed::from_env("--test system kills")?;
    let plan = Plan {
        lease: LEASE,
        proxied: false,
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let once = call("stock", "string", "restock", &json!({ "quantity": 5 })).key("once");
    assert_eq!(succeed(cluster.http(0), &once).await?, 5);
    let load = Load::start(&cluster, seed);
    let mut rng = seed.rng(99);

    let mut seen = Seen::default();
    for round in 0..KILLS {
        load.answered(rng.u64(50..200)).await?;
        kill(&mut cluster, &load, round, &mut seen).await?;
    }
    load.answered(300).await?;
    let repeated = load.finish().await?;

    check(&mut cluster, &load).await?;
    check_casts(&mut cluster, &seen).await?;
    for node in 0..3 {
        assert_eq!(succeed(cluster.http(node), &once).await?, 5, "asked again");
        assert_eq!(level(cluster.http(node), "string").await?, 5);
    }
    println!("{KILLS} kills, {repeated} attempts repeated: {seen:.0?}");
    assert!(
        seen.open > 0,
        "no kill hit work in flight: the test showed nothing"
    );
    assert!(
        seen.waiting > 0,
        "no kill hit a stored message: the test showed nothing"
    );
    cluster.stop().await
}
