//! Trouble between nodes: links that are cut, deaf, slow or silent, strangers at their port, and
//! handoffs whose news get lost.

use std::time::Duration;

use actor_core::store::Sql;
use actor_tests::{
    Deadline, Result, Seed, Stopwatch,
    proxy::{End, Fate, Then, Way},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    check,
    load::Load,
    nodes::{Cluster, Plan, list},
};
use crate::shop::level;

const LIVES: Sql = Sql::same("SELECT MAX(incarnation) FROM nodes");
const DEPOSED: Sql = Sql::same("SELECT COUNT(*) FROM nodes WHERE state <> 'up'");

/// Connections of strangers.
const STRANGERS: usize = 24;

/// Fails unless all nodes are in their first life and alive: a bad link proves nothing.
async fn nobody_died(cluster: &Cluster) -> Result<()> {
    assert_eq!(cluster.records.number(&LIVES, vec![]).await?, 1, "lives");
    assert_eq!(
        cluster.records.number(&DEPOSED, vec![]).await?,
        0,
        "deposed"
    );
    Ok(())
}

/// Says something to the port of a node's links that no peer would say, and waits to be hung up on.
async fn say_nonsense(cluster: &Cluster, node: usize, rng: &mut fastrand::Rng) -> Result<()> {
    let mut stream = TcpStream::connect(cluster.ways(node).links.address()).await?;
    let mut bytes: Vec<u8> = (0..rng.usize(1..4096)).map(|_| rng.u8(..)).collect();
    match rng.u8(..4) {
        // As a peer begins, and then something else.
        0 => bytes.splice(..0, *b"ALK1").for_each(drop),
        1 => bytes = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec(),
        2 => bytes.truncate(3),
        _ => {}
    }
    // It may hang up while we speak.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let hung_up = Deadline::seconds(30)
        .limit("the end", stream.read_to_end(&mut said))
        .await?;
    match hung_up {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a node has no link to another one.
async fn has_no_link(cluster: &mut Cluster, node: usize, to: usize) -> Result<()> {
    let (what, to) = (
        format!("the end of node {node}'s link"),
        format!("shop-{to}"),
    );
    Deadline::seconds(30)
        .poll(&what, async || {
            let seen = cluster.seen(node).await.ok()?;
            let up = list(&seen, "links").iter().any(|link| {
                link["node"] == to && link["direction"] == "dialled" && link["state"] == "up"
            });
            (!up).then_some(())
        })
        .await
}

/// Returns how often these nodes' links came back.
async fn reconnects(cluster: &mut Cluster, nodes: &[usize]) -> Result<f64> {
    let mut sum = 0.0;
    for node in nodes {
        sum += cluster.metric(*node, "actor_link_reconnects_total").await?;
    }
    Ok(sum)
}

// TRN-1, TRN-6: what was under way is sent again under its identity; nobody notices, and nobody is
// deposed.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_truncated_frames_cost_one_connection_each() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::proxied()).await?;
    let seed = Seed::from_env("--test system links")?;
    let load = Load::start(&cluster, seed);
    let mut rng = seed.rng(99);
    load.answered(100).await?;

    for number in 0..STRANGERS {
        say_nonsense(&cluster, number % 3, &mut rng).await?;
    }
    for node in 0..3 {
        let links = &cluster.ways(node).links;
        links.trap(b"", Then::CutInside);
        Deadline::seconds(30)
            .limit("a frame", links.sprung(1))
            .await?;
        load.answered(40).await?;
    }
    let mut open = 0;
    for end in [End::Close, End::Reset, End::Reset] {
        open += cluster.cut_links(end);
        load.answered(40).await?;
    }
    let errors = load.finish().await?;
    for node in 0..3 {
        cluster.is_linked(node).await?;
    }

    nobody_died(&cluster).await?;
    check(&mut cluster, &load).await?;
    let mut rejected = 0.0;
    for node in 0..3 {
        rejected += cluster
            .metric(node, "actor_link_arrivals_rejected_total")
            .await?;
    }
    println!("{rejected} strangers turned away, 3 frames truncated, {open} links cut");
    assert!(
        rejected >= STRANGERS as f64,
        "{rejected} strangers turned away"
    );
    assert!(open > 0, "no link was cut: the test showed nothing");
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}

const BOTH: [Way; 2] = [Way::Up, Way::Down];

/// How much later everything arrives on a slow link.
const SLOW: Duration = Duration::from_millis(40);

/// Spoils the links to node 1 until its peers notice, or at least until a caller does.
async fn spoil(cluster: &mut Cluster, load: &Load, ways: &[Way], fate: Fate) -> Result<()> {
    let peers = [0, 2];
    let (open, before) = (load.open(), load.repeated());
    let lost = reconnects(cluster, &peers).await?;
    for way in ways {
        cluster.ways(1).links.set(*way, fate);
    }
    load.answered(40).await?;
    if let Fate::Delay(_) = fate {
        let stocks = cluster.records.stocks_of(1, 1).await?;
        let asked = Stopwatch::start();
        level(cluster.http(0), &stocks[0]).await?;
        let took = asked.elapsed();
        assert!(took >= 2 * SLOW, "{took:?}: it did not go by a slow link");
    } else {
        for peer in peers {
            has_no_link(cluster, peer, 1).await?;
        }
    }
    cluster.ways(1).links.heal();
    load.answered(100).await?;
    for peer in peers {
        cluster.is_linked(peer).await?;
    }

    let (repeated, back) = (
        load.repeated() - before,
        reconnects(cluster, &peers).await? - lost,
    );
    println!("{ways:?} {fate:?}: {open} requests open, {repeated} repeated, {back} links back");
    let wanted = if let Fate::Delay(_) = fate { 0.0 } else { 2.0 };
    assert!(back >= wanted, "{ways:?} {fate:?}: {back} links came back");
    Ok(())
}

// Field: half-open and silent links. The others go on; what waits for the deaf node ends by its
// deadline or when it hears again.
#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_deaf_slow_or_silent_lose_nothing() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::proxied()).await?;
    let load = Load::start(&cluster, Seed::from_env("--test system links")?);
    load.answered(100).await?;

    spoil(&mut cluster, &load, &[Way::Up], Fate::Cut).await?;
    spoil(&mut cluster, &load, &[Way::Down], Fate::Cut).await?;
    spoil(&mut cluster, &load, &BOTH, Fate::Delay(SLOW)).await?;
    spoil(&mut cluster, &load, &BOTH, Fate::Swallow).await?;
    load.finish().await?;

    nobody_died(&cluster).await?;
    check(&mut cluster, &load).await?;
    cluster.stop().await
}

// SHD-9: the news of a handoff do not arrive, and one of those who should take over is a new life
// of its name. What the rows say is what happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_handoff_whose_news_are_lost_is_found_in_the_rows() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::proxied()).await?;
    let load = Load::start_at(&cluster, Seed::from_env("--test system links")?, &[0]);
    load.answered(100).await?;

    // Notes go by links: none arrives while they are cut again and again.
    cluster.asked_to_end(2)?;
    let mut cut = 0;
    for _ in 0..6 {
        cut += cluster.cut_links(End::Reset);
        load.answered(3).await?;
    }
    cluster.ended_in_order(2).await?;
    load.answered(100).await?;
    cluster.start_again(2).await?;
    cluster.is_balanced().await?;
    println!("{cut} links cut during a handoff");

    // While node 1 hands over, one of its heirs dies and is there again under its name.
    cluster.asked_to_end(1)?;
    cluster.kill(2).await?;
    cluster.start_again(2).await?;
    cluster.ended_in_order(1).await?;
    load.answered(100).await?;
    cluster.start_again(1).await?;
    cluster.is_balanced().await?;
    let repeated = load.finish().await?;

    check(&mut cluster, &load).await?;
    let lives = cluster.records.number(&LIVES, vec![]).await?;
    let stuck = cluster.metric(0, "actor_stuck").await?;
    println!("{repeated} attempts repeated, {lives} lives of one name");
    assert!(cut > 0 && lives >= 3, "{cut} links cut, {lives} lives");
    assert_eq!(stuck, 0.0, "what is due and does not move");
    cluster.stop().await
}
