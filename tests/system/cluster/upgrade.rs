//! One node after another replaced by the next release of the program, and back, while it is used.

use actor_core::store::Sql;
use actor_tests::{Deadline, Program, Result, Seed};
use serde_json::{Value, json};

use super::{
    load::{Deed, Load, SKUS},
    nodes::{Cluster, Plan},
};
use crate::shop::{call, succeed};

/// Puts in an amount with a note, which the first release does not know.
const ENTER: Deed = Deed {
    request: |account, amount| {
        let amount = json!({ "amount": amount, "note": "with thanks" });
        call("account", account, "enter", &json!({ "amount": amount }))
    },
    level: |statement| statement["level"].as_i64(),
};

const MIGRATED: Sql = Sql::same("SELECT COUNT(*) FROM migrations WHERE name = '0001_notes'");
const TABLE: Sql = Sql::same("SELECT COUNT(*) FROM teller_notes");
const WAITING: Sql = Sql::same("SELECT COUNT(*) FROM mailbox WHERE kind = 'badges'");
const DEAD: Sql = Sql::same("SELECT COUNT(*) FROM dead_letters");

/// Replaces all nodes, one after another, by another release; the load goes to the other two.
async fn roll(cluster: &mut Cluster, load: &Load, release: &'static str) -> Result<()> {
    for node in 0..cluster.len() {
        // As a load balancer does it: nobody begins anything at a node that is about to end.
        cluster.hide(node);
        load.left(node).await?;
        cluster.terminate(node).await?;
        load.answered(60).await?;
        cluster.replace(node, |program| program.setting("TELLER_RELEASE", release));
        cluster.start_again(node).await?;
        load.answered(60).await?;
    }
    cluster.is_balanced().await
}

async fn statement(cluster: &mut Cluster, account: &str) -> Result<Value> {
    succeed(
        cluster.http(0),
        &call("account", account, "statement", &json!({})),
    )
    .await
}

/// Returns how many notes were counted and how many badges given.
async fn noted(cluster: &mut Cluster) -> Result<(u64, u64)> {
    let (mut notes, mut badges) = (0, 0);
    for account in SKUS {
        let statement = statement(cluster, account).await?;
        notes += statement["noted"].as_u64().unwrap_or_default();
        let count = call("badges", account, "count", &json!({}));
        let count = succeed(cluster.http(0), &count).await?;
        badges += count.as_u64().unwrap_or_default();
    }
    Ok((notes, badges))
}

/// Waits until every badge that was sent is there.
async fn all_badges_are_given(cluster: &Cluster) -> Result<()> {
    let by = Deadline::seconds(40);
    by.poll("badges", async || {
        let left = cluster.records.number(&WAITING, vec![]).await.ok()?;
        (left == 0).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_follow_each_other_forward_and_back_without_an_error() -> Result<()> {
    let plan = Plan {
        program: Program::teller,
        proxied: false,
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let seed = Seed::from_env("--test system upgrade")?;
    let load = Load::of(ENTER, &cluster, seed, &[0, 1, 2]);
    load.answered(200).await?;
    assert_eq!(cluster.records.number(&MIGRATED, vec![]).await?, 0);

    roll(&mut cluster, &load, "2").await?;
    let (there, badges_there) = noted(&mut cluster).await?;
    roll(&mut cluster, &load, "1").await?;
    let back = statement(&mut cluster, SKUS[0]).await?;
    let held = cluster.records.number(&WAITING, vec![]).await?;
    roll(&mut cluster, &load, "2").await?;
    load.answered(100).await?;
    let errors = load.finish().await?;

    for (account, level) in load.levels() {
        let found = statement(&mut cluster, account).await?;
        assert_eq!(found["level"].as_i64(), Some(level), "{account}: {found}");
    }
    all_badges_are_given(&cluster).await?;
    let (notes, badges) = noted(&mut cluster).await?;
    println!("{errors} errors; {there} notes after the first roll, {notes} after the last");
    println!("{badges_there} badges, then {badges}; {held} waited for a release that knows them");
    assert!(back["noted"].is_null(), "the first release again: {back}");
    assert!(
        there > 0 && notes > there,
        "what the first release keeps of the second"
    );
    assert_eq!(badges, notes, "a badge for each note");
    assert_eq!(cluster.records.number(&DEAD, vec![]).await?, 0);
    assert_eq!(cluster.records.number(&MIGRATED, vec![]).await?, 1);
    assert_eq!(cluster.records.number(&TABLE, vec![]).await?, 0);
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}
