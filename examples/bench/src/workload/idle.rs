//! What an idle actor or entity costs: memory while it stays, time to make it.
//!
//! Each sort is measured in a process of its own: memory that one sort gave back would hide what
//! the next one takes.

use std::{
    env,
    process::{Command, Stdio},
};

use actor_core::{Failure, Result, clock::Clock};
use ractor::Actor;

use super::{durable::Account, entity_call::Tally, ractor_call::Counter};
use crate::{
    arguments::Plan,
    load::Load,
    memory::resident_bytes,
    node::Node,
    report::{Line, rounded},
};

/// How many are made.
const COUNT: u32 = 200_000;

/// Names the sort that a child process measures.
const SORT: &str = "BENCH_IDLE_SORT";

/// Runs `spawn_idle`.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let count = plan.count.unwrap_or(COUNT);
    match env::var(SORT).as_deref() {
        Ok("ractor") => Ok(vec![bare(plan, count).await?]),
        Ok("volatile") => Ok(vec![volatile(plan, count).await?]),
        Ok("durable") => Ok(vec![durable(plan, count).await?]),
        _ => ["ractor", "volatile", "durable"]
            .into_iter()
            .map(in_child)
            .collect(),
    }
}

/// Starts this very command again for one sort.
fn in_child(sort: &str) -> Result<Line> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(env::args_os().skip(1))
        .env(SORT, sort)
        .stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(Failure::fatal(
            "child_failed",
            format!("{sort} ended with {}", output.status),
        ));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn bare(plan: &Plan, count: u32) -> Result<Line> {
    let mut kept = Vec::with_capacity(count as usize);
    let measure = Measure::begin();
    for _ in 0..count {
        kept.push(Actor::spawn(None, Counter, ()).await?);
    }
    Ok(measure.end(plan, "ractor", "none", count))
}

async fn volatile(plan: &Plan, count: u32) -> Result<Line> {
    let node = Node::start(plan, count, |node| node.host::<Tally>()).await?;
    node.client.entity::<Tally>("first").add(1).await?;
    let measure = Measure::begin();
    for id in 0..count {
        node.client.entity::<Tally>(id).add(1).await?;
    }
    Ok(measure.end(plan, "volatile", "none", count))
}

async fn durable(plan: &Plan, count: u32) -> Result<Line> {
    let node = Node::start(plan, count, |node| node.host::<Account>()).await?;
    node.client.entity::<Account>("first").add(1).await?;
    let measure = Measure::begin();
    let callers = plan.concurrency;
    let mut tasks = tokio::task::JoinSet::<Result<()>>::new();
    for caller in 0..callers {
        let client = node.client.clone();
        tasks.spawn(async move {
            for id in (caller..count).step_by(callers as usize) {
                client.entity::<Account>(id).add(1).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(measure.end(plan, "durable", plan.backend(), count))
}

struct Measure {
    bytes: f64,
    started: actor_core::clock::Instant,
}

impl Measure {
    fn begin() -> Self {
        Self {
            bytes: resident_bytes(),
            started: Clock.now(),
        }
    }

    fn end(self, plan: &Plan, what: &str, backend: &str, count: u32) -> Line {
        let took = Clock.now() - self.started;
        let bytes = (resident_bytes() - self.bytes) / f64::from(count);
        let mut load = Load::new();
        (load.ops, load.took) = (u64::from(count), took);
        Line::of("spawn_idle", backend, plan, &load)
            .sized(1, count)
            .with("what", what)
            .with("bytes_each", rounded(bytes, 0))
            .with(
                "us_each",
                rounded(took.as_secs_f64() * 1e6 / f64::from(count), 2),
            )
    }
}
