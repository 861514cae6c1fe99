//! Nodes that die, or freeze, under load: how long the entities they had do not answer, and whether
//! anything that was acknowledged is lost.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_core::{Failure, Result, clock::Clock};
use tokio::task::JoinSet;

use super::accounts::{Accounts, Callers};
use crate::{
    arguments::Plan,
    cluster::{owners, settled},
    companion::with_kinds,
    load::Load,
    node::Node,
    report::{Line, per_second, rounded},
};

/// Kills, unless the command line says otherwise; and one freeze for so many kills.
const KILLS: u32 = 30;
const KILLS_A_FREEZE: u32 = 6;

/// How long callers wait for an answer when a node is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much longer than the lease they wait when one is frozen.
const BEYOND_LEASE: Duration = Duration::from_secs(10);

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
}

/// Runs `failover`: first kills, then freezes, each with a load and a check of its own.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut node = Node::start(plan, plan.entities, with_kinds).await?;
    let kills = plan.faults.unwrap_or(KILLS);
    let freezes = (kills / KILLS_A_FREEZE).max(1);
    let killed = suffer(&mut node, plan, Fault::Kill, kills, PATIENCE).await?;
    let longer = plan.lease_ttl + BEYOND_LEASE;
    let frozen = suffer(&mut node, plan, Fault::Freeze, freezes, longer).await?;
    Ok(vec![killed, frozen])
}

async fn suffer(
    node: &mut Node,
    plan: &Plan,
    fault: Fault,
    times: u32,
    patience: Duration,
) -> Result<Line> {
    let prefix = match fault {
        Fault::Kill => "kill",
        Fault::Freeze => "freeze",
    };
    let ids = (0..plan.entities).map(|id| format!("{prefix}-{id}"));
    let accounts = Arc::new(Accounts::new(&node.client, ids, patience));
    let callers = Callers::start(&accounts, plan.concurrency);
    Clock.sleep(plan.warm_up).await;
    let (mut faults, began) = (Load::new(), Clock.now());
    let each = Arc::new(Mutex::new(Load::new()));
    for number in 0..times as usize {
        let victim = number % node.companions.len();
        let took = lose(node, &accounts, victim, fault, &each).await?;
        faults.succeeded(took);
        bring_back(node, victim, fault).await?;
        settled(node.client.hosting().store(), plan.nodes, Duration::ZERO).await?;
    }
    faults.took = Clock.now() - began;
    let mut load = callers.stop().await;
    load.took = faults.took;
    let found = accounts.check().await?;
    let each = each.lock().unwrap_or_else(PoisonError::into_inner);
    faults.errors = load.errors + each.errors + found.lost + found.doubled;
    let mut errors = [load.first_error.as_ref(), each.first_error.as_ref()].into_iter();
    faults.first_error = errors.find_map(|error| error.cloned());
    Ok(Line::of("failover", plan.backend(), plan, &faults)
        .with("what", prefix)
        .with("longest_ms", faults.longest_ms())
        .with("entities_lost_and_found", each.ops)
        .with("entity_p50_ms", rounded(each.microseconds(0.5) / 1000.0, 1))
        .with(
            "entity_p99_ms",
            rounded(each.microseconds(0.99) / 1000.0, 1),
        )
        .with("calls", load.ops)
        .with("calls_per_s", rounded(per_second(load.ops, load.took), 1))
        .with("acknowledged_lost", found.lost)
        .with("counted_twice", found.doubled))
}

/// Takes a node away; returns after which time everything it had has answered.
async fn lose(
    node: &mut Node,
    accounts: &Arc<Accounts>,
    victim: usize,
    fault: Fault,
    each: &Arc<Mutex<Load>>,
) -> Result<Duration> {
    let hosting = node.client.hosting().clone();
    let owners = owners(hosting.store()).await?;
    let companion = &mut node.companions[victim];
    let its = |index: &usize| {
        let shard = hosting.shard_of("account", accounts.id(*index));
        owners[shard.0 as usize].as_ref() == Some(&companion.name)
    };
    let lost: Vec<usize> = (0..accounts.len()).filter(its).collect();
    if lost.is_empty() {
        let text = format!("{} had no entities", companion.name);
        return Err(Failure::fatal("no_entities", text));
    }
    let began = Clock.now();
    match fault {
        Fault::Kill => companion.kill()?,
        Fault::Freeze => companion.freeze()?,
    }
    let mut calls = JoinSet::new();
    for index in lost {
        let (accounts, each) = (accounts.clone(), each.clone());
        calls.spawn(async move {
            let outcome = accounts.add(index).await;
            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
            each.count(outcome, Clock.now() - began);
        });
    }
    while let Some(called) = calls.join_next().await {
        called?;
    }
    Ok(Clock.now() - began)
}

/// Starts it again; one that was frozen first learns that it is no node any more.
async fn bring_back(node: &mut Node, victim: usize, fault: Fault) -> Result<()> {
    let companion = &mut node.companions[victim];
    if fault == Fault::Freeze {
        companion.thaw()?;
    }
    let status = companion.ended().await?;
    if fault == Fault::Freeze && status.code() != Some(1) {
        let text = format!("{} was frozen and ended with {status}", companion.name);
        return Err(Failure::fatal("not_fenced", text));
    }
    companion.restart().await
}
