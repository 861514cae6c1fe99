//! Nodes that leave in order under load and come back: the longest time an entity did not answer.

use std::{sync::Arc, time::Duration};

use actor_core::{Failure, Result, clock::Clock};
use tokio::task::JoinSet;

use super::accounts::{Accounts, Callers};
use crate::{
    arguments::Plan,
    cluster::settled,
    companion::with_kinds,
    load::Load,
    node::Node,
    report::{Line, per_second, rounded},
};

/// Entities in memory and drains, unless the command line says otherwise.
const RESIDENTS: u32 = 100_000;
const DRAINS: u32 = 6;

/// How long callers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `handoff`: `ops` counts drains, and latencies are the longest pauses of each.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let residents = plan.count.unwrap_or(RESIDENTS);
    let mut node = Node::start(plan, residents, with_kinds).await?;
    let ids = (0..residents).map(|id| id.to_string());
    let accounts = Arc::new(Accounts::new(&node.client, ids, PATIENCE));
    bring_in(&accounts, plan.concurrency).await?;
    let (mut drains, mut returns) = (Load::new(), Load::new());
    let (mut calls, began) = (Load::new(), Clock.now());
    for number in 0..plan.faults.unwrap_or(DRAINS) as usize {
        let victim = number % node.companions.len();
        let callers = Callers::start(&accounts, plan.concurrency);
        leave(&mut node, victim).await?;
        drains.add(callers.stop_as_one(&mut calls).await);
        let callers = Callers::start(&accounts, plan.concurrency);
        node.companions[victim].restart().await?;
        settled(node.client.hosting().store(), plan.nodes, Duration::ZERO).await?;
        returns.add(callers.stop_as_one(&mut calls).await);
    }
    drains.took = Clock.now() - began;
    let found = accounts.check().await?;
    drains.errors = calls.errors + found.lost + found.doubled;
    drains.first_error.clone_from(&calls.first_error);
    let line = Line::of("handoff", plan.backend(), plan, &drains)
        .sized(plan.concurrency, residents)
        .with("longest_ms", drains.longest_ms())
        .with("return_longest_ms", returns.longest_ms())
        .with("calls", calls.ops)
        .with(
            "calls_per_s",
            rounded(per_second(calls.ops, drains.took), 1),
        )
        .with("call_p99_ms", rounded(calls.microseconds(0.99) / 1000.0, 1))
        .with("acknowledged_lost", found.lost)
        .with("counted_twice", found.doubled);
    Ok(vec![line])
}

/// Calls each entity once, so that all are in memory.
async fn bring_in(accounts: &Arc<Accounts>, callers: u32) -> Result<()> {
    let mut tasks = JoinSet::new();
    for caller in 0..callers as usize {
        let accounts = accounts.clone();
        tasks.spawn(async move {
            for index in (caller..accounts.len()).step_by(callers as usize) {
                accounts.add(index).await?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?.map_err(|error| Failure::new("not_in_memory", error))?;
    }
    Ok(())
}

/// Lets a node leave in order.
async fn leave(node: &mut Node, victim: usize) -> Result<()> {
    let companion = &mut node.companions[victim];
    companion.drain().await?;
    let status = companion.ended().await?;
    if status.success() {
        return Ok(());
    }
    let text = format!("{} did not leave in order: {status}", companion.name);
    Err(Failure::fatal("no_drain", text))
}
