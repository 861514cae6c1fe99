//! Nodes that are frozen in the middle of a batch, and wake up when others own their shards.

use actor_core::store::Sql;
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

/// Counts every row that is to be written into the table of entities, also by who fails then: a
/// sequence forgets nothing.
const COUNT_WRITES: [Sql; 3] = [
    Sql::same("CREATE SEQUENCE test_writes"),
    Sql::same(
        "CREATE FUNCTION test_count() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM nextval('test_writes'); RETURN NEW; END $$",
    ),
    Sql::same(
        "CREATE TRIGGER test_count BEFORE INSERT OR UPDATE ON entities
         FOR EACH ROW EXECUTE FUNCTION test_count()",
    ),
];

const WRITES: Sql = Sql::same("SELECT last_value FROM test_writes");

const STORED: Sql = Sql::same(
    "SELECT kind || ' ' || id || ' at version ' || version || ' is ' || encode(state, 'hex')
     FROM entities ORDER BY kind, id",
);

/// What is stored of all entities, and how many writes were tried so far.
#[derive(Debug, PartialEq)]
struct Stored {
    writes: i64,
    rows: Vec<String>,
}

impl Stored {
    async fn look(cluster: &Cluster) -> Result<Self> {
        let rows = cluster.records.rows(&STORED, vec![]).await?;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| row.text(0))
            .collect::<Result<_, _>>()?;
        assert!(
            !rows.is_empty(),
            "nothing is stored: the test showed nothing"
        );
        let writes = cluster.records.number(&WRITES, vec![]).await?;
        Ok(Self { writes, rows })
    }
}

/// Starts three nodes whose writes are counted, and a load. Who asks a frozen node waits for as
/// long as it is frozen: the load stays with the others.
async fn start() -> Result<(Cluster, Load)> {
    let cluster = Cluster::start_as(Plan::proxied()).await?;
    let counting = COUNT_WRITES.iter().map(|sql| (sql, vec![])).collect();
    cluster.records.change(counting).await?;
    let load = Load::start_at(&cluster, Seed::from_env("--test system frozen")?, &[0, 2]);
    load.answered(200).await?;
    Ok((cluster, load))
}

/// Freezes a node until the others own everything and have answered all that was open. Returns how
/// much was open.
async fn freeze_past_the_lease(cluster: &mut Cluster, load: &Load, node: usize) -> Result<u64> {
    cluster.freeze(node)?;
    let open = load.open();
    // Nobody waits for what its links would say: what was asked is asked again at the next owner.
    cluster.ways(node).links.end_all(End::Reset);
    let frozen = Stopwatch::start();
    cluster.owns_nothing(node).await?;
    println!(
        "until the others owned everything: {:.0?}",
        frozen.elapsed()
    );
    load.answered(200).await?;
    let repeated = load.finish().await?;
    println!("frozen with {open} requests open, {repeated} attempts repeated");
    Ok(open)
}

fn soon() -> Deadline {
    Deadline::seconds(30)
}

// The batch was let through by all that the node itself knows; it reaches the database when the
// lease is over. Only the fence is left to refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn late_writes_of_a_node_frozen_past_its_lease_are_refused_by_the_database() -> Result<()> {
    let (mut cluster, load) = start().await?;
    let database = &cluster.ways(1).database;
    database.trap_of(LANE, b"BEGIN", Then::Hold);
    soon().limit("a batch", database.sprung(1)).await?;
    let open = freeze_past_the_lease(&mut cluster, &load, 1).await?;

    let before = Stored::look(&cluster).await?;
    cluster.ways(1).database.trap_of(LANE, COMMIT, Then::Hold);
    cluster.thaw(1)?;
    let database = &cluster.ways(1).database;
    database.release();
    // It goes as far as it can: what the fence left of it is nothing.
    soon().limit("the late batch", database.sprung(2)).await?;
    database.release();
    cluster.ends(1).await?;

    let refused = cluster.said(1, REFUSED);
    println!("{refused} late batches refused, says the node");
    assert_eq!(Stored::look(&cluster).await?, before, "after late writes");
    assert!(open > 0, "nothing was in flight: the test showed nothing");
    cluster.start_again(1).await?;
    check(&mut cluster, &load).await?;
    cluster.stop().await
}

// SHD-10: the transaction has locked its shards' rows when its node stops moving. The server lets
// go of them before the lease is over, and what the node commits when it wakes up comes to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_frozen_between_fence_and_commit_is_followed() -> Result<()> {
    let (mut cluster, load) = start().await?;
    let database = &cluster.ways(1).database;
    database.trap_of(LANE, COMMIT, Then::Hold);
    soon().limit("a commit", database.sprung(1)).await?;
    let open = freeze_past_the_lease(&mut cluster, &load, 1).await?;

    let before = Stored::look(&cluster).await?;
    cluster.thaw(1)?;
    cluster.ways(1).database.release();
    cluster.ends(1).await?;

    assert_eq!(Stored::look(&cluster).await?, before, "after a late commit");
    assert!(open > 0, "nothing was in flight: the test showed nothing");
    cluster.start_again(1).await?;
    check(&mut cluster, &load).await?;
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
    let counted = soon().poll("the count of refused writes", async || {
        let fenced = cluster.metric(1, "actor_fenced_total").await.ok()?;
        (fenced > 0.0).then_some(fenced)
    });
    let fenced = counted.await?;
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
