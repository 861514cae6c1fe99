//! Timers: how many due ones are delivered a second, and how late they are on a quiet node.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::NodeBuilder;
use actor_core::{Ctx, Entity, Result, clock::Clock, handlers};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Plan,
    load::Load,
    node::Node,
    report::{Line, rounded},
};

/// Timers that are due at once.
const BURST: u32 = 100_000;

/// Timers of the quiet phase, and the time over which they are spread.
const QUIET: u32 = 1_000;
const QUIET_SPREAD: Duration = Duration::from_secs(5);

/// How long before the first one is due, for each timer to schedule: time enough to store them all.
const LEAD_MICROS: u64 = 100;

/// How long to wait for what should come at once.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An entity that is woken.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, mailbox = 1_000_000)]
pub(crate) struct Sleeper {
    woken: u64,
}

/// How late each timer was.
#[derive(Debug)]
struct Lateness(Arc<Mutex<Load>>);

#[handlers]
impl Sleeper {
    /// Returns how often it was woken.
    pub fn woken(&self) -> u64 {
        self.woken
    }

    /// Notes how late it is; `due` is in milliseconds since 1970, database time.
    pub fn wake(&mut self, due: i64, ctx: &mut Ctx<Self>) {
        self.woken += 1;
        let late = ctx.hosting().store().now_ms() - due;
        let mut lateness = ctx
            .resource::<Lateness>()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match u64::try_from(late) {
            Ok(late) => lateness.succeeded(Duration::from_millis(late)),
            Err(_) => lateness.failed(format_args!("a timer fired {} ms early", -late)),
        }
    }
}

/// Runs `timer_fire`.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let lateness = Arc::new(Mutex::new(Load::new()));
    let noted = Lateness(lateness.clone());
    let hosted = |node: NodeBuilder| node.provide(noted).host::<Sleeper>();
    let node = Node::start(plan, plan.entities, hosted).await?;

    let count = plan.count.unwrap_or(BURST);
    let lead = Duration::from_micros(LEAD_MICROS * u64::from(count)) + Duration::from_secs(1);
    let due = schedule(&node, plan, count, lead, Duration::ZERO).await?;
    let now = node.client.hosting().store().now_ms();
    Clock
        .sleep(Duration::from_millis(
            u64::try_from(due - now).unwrap_or_default(),
        ))
        .await;
    let started = Clock.now();
    let burst = all_fired(&lateness, count).await;
    let took = Clock.now() - started;

    schedule(&node, plan, QUIET, Duration::from_secs(1), QUIET_SPREAD).await?;
    let mut quiet = all_fired(&lateness, QUIET).await;
    quiet.errors += burst.errors;
    quiet.first_error = quiet.first_error.or(burst.first_error.clone());
    let expected = u64::from(count) + u64::from(QUIET);
    let woken = all_counted(&node, plan, expected).await?;
    if woken != expected {
        quiet.failed(format_args!(
            "{expected} timers were stored, {woken} counted"
        ));
    }
    let late_ms = burst.microseconds(0.99) / 1000.0;
    (quiet.ops, quiet.took) = (u64::from(count), took);
    let line = Line::of("timer_fire", plan.backend(), plan, &quiet)
        .with("burst_late_p99_ms", rounded(late_ms, 1))
        .with("handled", burst.ops)
        .with("quiet_timers", QUIET);
    Ok(vec![line])
}

/// Stores `count` timers, the first due after `lead`, the others over `spread`; returns when the
/// first is due.
async fn schedule(
    node: &Node,
    plan: &Plan,
    count: u32,
    lead: Duration,
    spread: Duration,
) -> Result<i64> {
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let first = node.client.hosting().store().now_ms() + ms(lead);
    let callers = plan.concurrency.min(count).max(1);
    let mut tasks = tokio::task::JoinSet::<Result<()>>::new();
    for caller in 0..callers {
        let (client, entities) = (node.client.clone(), plan.entities);
        tasks.spawn(async move {
            for number in (caller..count).step_by(callers as usize) {
                let due = first + ms(spread * number / count);
                client
                    .entity::<Sleeper>(number % entities)
                    .wake(due)
                    .at(due)
                    .await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(first)
}

/// Waits until the entities have stored `expected` wakes, at most [`PATIENCE`]; returns how many.
/// A handler may have run before its commit fails: it runs again, and counts only now.
async fn all_counted(node: &Node, plan: &Plan, expected: u64) -> Result<u64> {
    let deadline = Clock.now() + PATIENCE;
    loop {
        let mut woken = 0;
        for id in 0..plan.entities {
            woken += node.client.entity::<Sleeper>(id).woken().await?;
        }
        if woken >= expected || Clock.now() >= deadline {
            return Ok(woken);
        }
        Clock.sleep(LOOK_EVERY).await;
    }
}

/// Waits until `count` timers have fired, at most [`PATIENCE`]; returns how late they were.
async fn all_fired(lateness: &Mutex<Load>, count: u32) -> Load {
    let deadline = Clock.now() + PATIENCE;
    loop {
        {
            let mut load = lateness.lock().unwrap_or_else(PoisonError::into_inner);
            let fired = load.ops + load.errors;
            if fired >= u64::from(count) || Clock.now() >= deadline {
                let missing = u64::from(count).saturating_sub(fired);
                let mut load = std::mem::replace(&mut *load, Load::new());
                load.errors += missing;
                return load;
            }
        }
        Clock.sleep(LOOK_EVERY).await;
    }
}
