//! Trouble between one node and its database, while its links to the others stay up.

use actor_core::{
    id::ShardId,
    store::{Sql, Value},
};
use actor_tests::{
    Deadline, Result, Seed,
    proxy::{End, Fate, Then},
};
use serde_json::json;

use super::{
    check,
    frozen::{COMMIT, LANE},
    load::Load,
    nodes::{Cluster, Plan, SHARDS},
};
use crate::shop::{level, restock};

/// What the connection that renews the lease tells the database of itself.
const LEASE: &[u8] = b"actor-lease";

/// Resets of all connections of one node.
const RESETS: usize = 8;

const LIFE: Sql = Sql::same("SELECT incarnation FROM nodes WHERE node = $1");

async fn life(cluster: &Cluster, node: usize) -> Result<i64> {
    let name = format!("shop-{node}");
    cluster
        .records
        .number(&LIFE, vec![name.as_str().into()])
        .await
}

/// Connections that break, and are there again at once, cost no shard.
async fn resets(cluster: &mut Cluster, load: &Load, node: usize) -> Result<()> {
    let (before, mut ended) = (life(cluster, node).await?, 0);
    for _ in 0..RESETS {
        ended += cluster.ways(node).database.end_all(End::Reset);
        load.answered(20).await?;
    }
    let database = &cluster.ways(node).database;
    database.trap_of(LANE, COMMIT, Then::CloseAfter);
    let by = Deadline::seconds(30);
    by.limit("a commit", database.sprung(1)).await?;
    cluster.says(node, "the end of a commit is unknown").await?;
    load.answered(20).await?;

    let unclear = cluster.said(node, "the end of a commit is unknown");
    println!("{ended} connections reset, {unclear} commits with an unknown end");
    assert_eq!(life(cluster, node).await?, before, "the node's life");
    assert!(cluster.metric(node, "actor_shards_owned").await? > 0.0);
    Ok(())
}

/// The node is not heard of by its database: the others follow, and it ends by itself.
async fn silence(cluster: &mut Cluster, load: &Load, node: usize, of: &[u8]) -> Result<()> {
    let open = load.open();
    cluster.ways(node).database.set_of(of, Fate::Swallow);
    cluster.owns_nothing(node).await?;
    load.answered(100).await?;
    cluster.ends(node).await?;

    cluster.ways(node).database.heal();
    cluster.start_again(node).await?;
    cluster.is_balanced().await?;
    println!(
        "silence for {:?} with {open} requests open",
        String::from_utf8_lossy(of)
    );
    load.answered(100).await
}

// SHD-1, SHD-4, SHD-5, SHD-6, SHD-7, SHD-8, RST-4, RST-5, RST-6, RST-7: broken connections are
// replaced and cost nothing; a lease that cannot be renewed, and a database that is not there for
// one node, cost that node its life, while the others take over and go on.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_database_costs_at_most_the_node_that_has_it() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::proxied()).await?;
    let seed = Seed::from_env("--test system database")?;
    let load = Load::start_at(&cluster, seed, &[0]);
    load.answered(200).await?;

    resets(&mut cluster, &load, 1).await?;
    silence(&mut cluster, &load, 1, LEASE).await?;
    silence(&mut cluster, &load, 2, b"").await?;

    let repeated = load.finish().await?;
    check(&mut cluster, &load).await?;
    println!("{repeated} attempts repeated");
    cluster.stop().await
}

/// What a node says of a renewal that came to nothing.
const NOT_RENEWED: &str = "the lease could not be renewed";

const EXPIRES_AT: Sql = Sql::same("SELECT expires_at FROM nodes");

/// Waits for the next renewal of the only node.
async fn renewed(cluster: &Cluster) -> Result<()> {
    let before = cluster.records.number(&EXPIRES_AT, vec![]).await?;
    Deadline::seconds(30)
        .poll("a renewal", async || {
            let expires_at = cluster.records.number(&EXPIRES_AT, vec![]).await.ok()?;
            (expires_at > before).then_some(())
        })
        .await
}

// RST-6: the server is there and a connection looks open, but nothing comes back on it any more.
// What begins on one that was idle begins again on another; a renewal that was under way is given
// up and asked for again while the lease still holds.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_answer_are_replaced_and_cost_no_life() -> Result<()> {
    let plan = Plan {
        nodes: 1,
        // Long enough to give up on a renewal and have time left for the next one.
        lease: "8s",
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let load = Load::start(&cluster, Seed::from_env("--test system database")?);
    load.answered(100).await?;

    let by = Deadline::seconds(60);
    let database = &cluster.ways(0).database;
    database.trap_of(LEASE, b"BEGIN", Then::Vanish);
    by.limit("a renewal", database.sprung(1)).await?;
    database.trap_of(LANE, b"BEGIN", Then::Vanish);
    by.limit("a batch", database.sprung(2)).await?;
    let open = load.open();
    renewed(&cluster).await?;
    database.trap_of(LEASE, COMMIT, Then::Vanish);
    by.limit("another renewal", database.sprung(3)).await?;
    renewed(&cluster).await?;
    load.answered(2 * open).await?;
    let repeated = load.finish().await?;

    check(&mut cluster, &load).await?;
    let failed = cluster.said(0, NOT_RENEWED);
    println!("3 connections without an answer, {failed} renewals given up");
    println!("{open} callers of a batch without an answer, {repeated} attempts repeated");
    assert!(failed > 0, "no renewal was given up");
    assert!(
        open > 0 && repeated > 0,
        "nobody waited for the batch: the test showed nothing"
    );
    assert_eq!(life(&cluster, 0).await?, 1, "the node's life");
    assert_eq!(cluster.metric(0, "actor_shards_owned").await?, SHARDS);
    cluster.stop().await
}

const NODES: Sql = Sql::same("SELECT COUNT(*) FROM nodes");

// SHD-13, RST-3
#[tokio::test(flavor = "multi_thread")]
async fn clusters_with_schemas_of_their_own_do_not_see_each_other() -> Result<()> {
    let (mut one, mut other) = (Cluster::start(1).await?, Cluster::start(1).await?);

    restock(one.http(0), "tea", 5).await?;
    restock(other.http(0), "tea", 7).await?;

    for (cluster, tea) in [(&mut one, 5), (&mut other, 7)] {
        assert_eq!(level(cluster.http(0), "tea").await?, tea);
        assert_eq!(cluster.records.number(&NODES, vec![]).await?, 1);
        assert_eq!(cluster.metric(0, "actor_shards_owned").await?, SHARDS);
    }
    one.stop().await?;
    other.stop().await
}

const STORE: Sql = Sql::same(
    "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, created_at)
     VALUES ($1, 'stock', $2, $3, $4, $5, $6, '', actor_now())",
);
const WAITING: Sql = Sql::same("SELECT COUNT(*) FROM mailbox");
const DEAD: Sql =
    Sql::same("SELECT COUNT(*) FROM dead_letters WHERE kind = 'stock' AND length(args) > 0");

/// Entities that get a poisoned row between two good ones.
const POISONED: usize = 12;

/// Stores a message of an entity as a sender in another program would.
async fn store(cluster: &Cluster, sku: &str, number: usize, row: [&'static str; 3]) -> Result<()> {
    let [method, codec, args] = row;
    let shards = SHARDS as u32;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let values: Vec<Value> = vec![
        ShardId::of("stock", sku, shards).into(),
        sku.into(),
        id.to_vec().into(),
        method.into(),
        codec.into(),
        args.as_bytes().to_vec().into(),
    ];
    cluster.records.change(vec![(&STORE, values)]).await?;
    Ok(())
}

// MSG-16: what was stored while nobody ran is handled once. Of a page of rows, those nobody can
// read cost only themselves, and are kept with their bytes.
#[tokio::test(flavor = "multi_thread")]
async fn poisoned_rows_among_others_cost_only_themselves() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let good = ["restock", "json", r#"{"quantity":3}"#];
    let poison = [
        ["restock", "json", r#"{"quantity":"#],
        ["restock", "msgpack", "\u{1}\u{2}"],
        ["restock", "morse", "..."],
        ["no such method", "json", "{}"],
    ];
    cluster.kill(0).await?;
    for entity in 0..POISONED {
        let sku = format!("sku-{entity}");
        for (place, row) in [good, poison[entity % poison.len()], good]
            .into_iter()
            .enumerate()
        {
            store(&cluster, &sku, 3 * entity + place + 1, row).await?;
        }
    }
    cluster.start_again(0).await?;

    let by = Deadline::seconds(40);
    by.poll("all rows", async || {
        let left = cluster.records.number(&WAITING, vec![]).await.ok()?;
        (left == 0).then_some(())
    })
    .await?;
    for entity in 0..POISONED {
        let found = level(cluster.http(0), &format!("sku-{entity}")).await?;
        assert_eq!(found, 6, "the level of sku-{entity}");
    }
    let dead = cluster.records.number(&DEAD, vec![]).await?;
    println!(
        "{dead} poisoned rows given up, {} handled beside them",
        2 * POISONED
    );
    assert_eq!(dead, POISONED as i64);
    let next = json!({ "quantity": 1 });
    crate::shop::succeed(
        cluster.http(0),
        &crate::shop::call("stock", "sku-1", "restock", &next),
    )
    .await?;
    cluster.stop().await
}
