//! Far too many casts at one slow entity: what is refused, what memory does, how others fare.

use std::{sync::Arc, time::Duration};

use actor_core::{CallError, Ctx, Entity, Result, clock::Clock, handlers};
use tokio::task::JoinSet;

use super::entity_call::{Tally, tallies};
use crate::{
    arguments::Plan,
    load::{Load, closed_loop},
    memory::resident_mib,
    node::Node,
    report::{Line, per_second, rounded},
};

/// Casts at the slow entity.
const CASTS: u32 = 1_000_000;

/// How long it takes for each.
const SLOWNESS: Duration = Duration::from_millis(10);

/// Callers of other entities meanwhile.
const OTHERS: u32 = 8;

/// An entity that takes its time.
#[derive(Debug, Default, Entity)]
pub(crate) struct Slow {
    handled: u64,
}

#[handlers]
impl Slow {
    /// Takes its time over a text.
    pub async fn digest(&mut self, text: String, ctx: &mut Ctx<Self>) {
        ctx.hosting().clock().sleep(SLOWNESS).await;
        self.handled += text.len() as u64;
    }
}

/// What became of the casts of one sender.
#[derive(Debug, Default)]
struct Casts {
    accepted: u64,
    refused: u64,
    unexpected: Others,
}

/// Refusals that are not the typed one.
#[derive(Debug, Default)]
struct Others {
    count: u64,
    first: Option<String>,
}

/// Runs `overload`.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let node = Node::start(plan, plan.entities + 1, |node| node.host::<(Slow, Tally)>()).await?;
    let others = Arc::new(tallies(&node.client, plan.entities));
    let call_others = |plan: &Plan| {
        let (others, plan) = (others.clone(), plan.clone());
        let operation = move |turn: crate::load::Turn| {
            let others = others.clone();
            async move { others[turn.pick(others.len())].add(1).await }
        };
        async move { closed_loop(&plan, operation).await }
    };
    let beside = Plan {
        concurrency: OTHERS,
        warm_up: Duration::ZERO,
        ..plan.clone()
    };
    let quiet = call_others(&Plan {
        measured: Duration::from_secs(2),
        ..beside.clone()
    })
    .await;

    let before = resident_mib();
    let count = plan.count.unwrap_or(CASTS);
    let busy = tokio::spawn(call_others(&beside));
    let started = Clock.now();
    let casts = flood(&node, count, plan.concurrency).await?;
    let took = Clock.now() - started;
    let grown = resident_mib() - before;
    let busy = busy.await?;

    let mut load = Load::new();
    (load.ops, load.took) = (u64::from(count), took);
    load.errors = casts.unexpected.count + busy.errors;
    load.first_error = casts.unexpected.first.or(busy.first_error.clone());
    let line = Line::of("overload", "none", plan, &load)
        .sized(plan.concurrency, 1)
        .with("accepted", casts.accepted)
        .with("refused", casts.refused)
        .with("rss_growth_mib", rounded(grown, 1))
        .with("others_quiet_p50_us", quiet.microseconds(0.5))
        .with("others_quiet_p99_us", quiet.microseconds(0.99))
        .with("others_p50_us", busy.microseconds(0.5))
        .with("others_p99_us", busy.microseconds(0.99))
        .with("others_max_us", busy.microseconds(1.0))
        .with("others_per_s", rounded(per_second(busy.ops, busy.took), 1));
    Ok(vec![line])
}

async fn flood(node: &Node, count: u32, senders: u32) -> Result<Casts> {
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let slow = node.client.entity::<Slow>("slow");
        tasks.spawn(async move {
            let mut casts = Casts::default();
            for _ in (sender..count).step_by(senders as usize) {
                match slow.digest("x".repeat(100)).cast().await {
                    Ok(()) => casts.accepted += 1,
                    Err(CallError::Overloaded { .. }) => casts.refused += 1,
                    Err(other) => {
                        casts.unexpected.count += 1;
                        casts
                            .unexpected
                            .first
                            .get_or_insert_with(|| other.to_string());
                    }
                }
                // A refusal comes at once; without this one sender would keep its thread for
                // itself.
                tokio::task::yield_now().await;
            }
            casts
        });
    }
    let mut sum = Casts::default();
    while let Some(casts) = tasks.join_next().await {
        let casts = casts?;
        sum.accepted += casts.accepted;
        sum.refused += casts.refused;
        sum.unexpected.count += casts.unexpected.count;
        sum.unexpected.first = sum.unexpected.first.or(casts.unexpected.first);
    }
    Ok(sum)
}
