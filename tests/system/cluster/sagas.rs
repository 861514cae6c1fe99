//! Nodes that die between what a saga did and what it was about to write down of it.

use actor_core::store::Sql;
use actor_tests::{Deadline, Program, Request, Result, proxy::Then};
use serde_json::json;

use super::{
    frozen::LANE,
    nodes::{Cluster, Plan},
};
use crate::shop::{call, succeed};

/// The word that a suspended run's row gets as its reason; it goes up with that commit only.
const SUSPENDS: &[u8] = b"suspended";

const STEPS: Sql = Sql::same("SELECT COUNT(*) FROM journal WHERE run = 'p-1'");
const SUSPENDED: Sql = Sql::same("SELECT COUNT(*) FROM runs WHERE state = 'suspended'");

// Field: killed between "step done" and "suspended persisted". The next life, on any node, finds
// the step in the journal and sleeps; the step's effect is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_before_a_run_is_suspended_is_followed_by_one_that_sleeps() -> Result<()> {
    let plan = Plan {
        nodes: 1,
        program: Program::teller,
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let database = &cluster.ways(0).database;
    database.trap_of(LANE, SUSPENDS, Then::Hold);
    let payout = json!({ "purse": "p", "amount": 5 });
    succeed(
        cluster.http(0),
        &Request::post("/sagas/payout/p-1", &payout),
    )
    .await?;
    let held = cluster.ways(0).database.sprung(1);
    Deadline::seconds(30).limit("the suspension", held).await?;

    cluster.kill(0).await?;
    let steps = cluster.records.number(&STEPS, vec![]).await?;
    let suspended = cluster.records.number(&SUSPENDED, vec![]).await?;
    cluster.start_again(0).await?;
    let ended = Request::get("/sagas/payout/p-1?wait=5s");
    let ended = succeed(cluster.http(0), &ended).await?;

    println!("killed with {steps} entries in the journal and {suspended} runs suspended");
    assert!(
        steps > 0 && suspended == 0,
        "{steps} entries, {suspended} runs"
    );
    assert_eq!(ended["state"], "completed", "{ended}");
    assert_eq!(ended["result"], 10, "{ended}");
    let level = succeed(cluster.http(0), &call("purse", "p", "level", &json!({}))).await?;
    assert_eq!(level, 10, "each half once");
    cluster.stop().await
}
