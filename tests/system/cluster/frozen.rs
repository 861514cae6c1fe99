//! Nodes that are frozen in the middle of a batch, and wake up when others own their shards.

use actor_tests::{
    Deadline, Result, Seed, Stopwatch,
    proxy::{End, Fate, Then},
};

use super::{
    check,
    load::Load,
    nodes::{Cluster, Plan},
};

/// What the connections of lanes tell the database of themselves.
pub(super) const LANE: &[u8] = b"actor-lane";

/// The message that commits; the words of an isolation level contain the word, too.
pub(super) const COMMIT: &[u8] = b"COMMIT\0";

/// The words with which a node says that SQL refused it.
const REFUSED: &str = "the database refused writes";

fn soon() -> Deadline {
    Deadline::seconds(30)
}

// SHD-10: the transaction has locked its shards' rows when its node stops moving. The server lets
// go of them before the lease is over, and what the node commits when it wakes up comes to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_frozen_between_fence_and_commit_is_followed() -> Result<()> {
    let mut cluster = Cluster::start_as(Plan::proxied()).await?;
    let seed = Seed::from_env("--test system frozen")?;
    // Who asks the frozen one waits for as long as it is frozen: the load stays with the others.
    let load = Load::start_at(&cluster, seed, &[0, 2]);
    load.answered(200).await?;

    let database = &cluster.ways(1).database;
    database.trap_of(LANE, COMMIT, Then::Hold);
    soon().limit("a commit", database.sprung(1)).await?;
    cluster.freeze(1)?;
    let (open, frozen) = (load.open(), Stopwatch::start());
    cluster.owns_nothing(1).await?;
    let followed = frozen.elapsed();
    load.answered(200).await?;
    cluster.thaw(1)?;
    cluster.ways(1).database.release();
    cluster.ends(1).await?;

    cluster.start_again(1).await?;
    load.answered(200).await?;
    let repeated = load.finish().await?;
    check(&mut cluster, &load).await?;
    println!("frozen with {open} requests open and a commit on its way, {repeated} repeated");
    println!("until the others owned everything: {followed:.0?}");
    assert!(open > 0, "nothing was in flight: the test showed nothing");
    cluster.stop().await
}

// Nothing but SQL tells this node that its shards are another's: its lease still holds by its own
// clock, nobody reaches it, and only the connections of its lanes work. With the default lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_a_node_that_was_declared_dead_is_refused_by_the_database() -> Result<()> {
    let lease = "10s";
    let plan = Plan {
        lease,
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let seed = Seed::from_env("--test system frozen")?;
    let load = Load::start_at(&cluster, seed, &[0, 2]);
    load.answered(200).await?;

    let database = &cluster.ways(1).database;
    database.trap_of(LANE, b"BEGIN", Then::Hold);
    soon().limit("a batch", database.sprung(1)).await?;
    cluster.freeze(1)?;
    let links = &cluster.ways(1).links;
    links.close_door().await;
    let cut = links.end_all(End::Reset);
    cluster.owns_nothing(1).await?;
    let database = &cluster.ways(1).database;
    database.set_both(Fate::Hold);
    database.set_of(LANE, Fate::Pass);
    cluster.thaw(1)?;
    cluster.ways(1).database.release();

    cluster.says(1, REFUSED).await?;
    let mut fenced = 0.0;
    while fenced == 0.0 {
        fenced = cluster.metric(1, "actor_fenced_total").await?;
    }
    load.answered(200).await?;
    cluster.ways(1).database.heal();
    cluster.ends(1).await?;
    cluster.start_again(1).await?;
    load.answered(200).await?;
    let repeated = load.finish().await?;
    check(&mut cluster, &load).await?;
    println!("{cut} links cut, {fenced} late writes refused, {repeated} attempts repeated");
    assert!(cut > 0, "it had no links: nobody could testify");
    cluster.stop().await
}
