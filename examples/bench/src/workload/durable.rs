//! Calls and casts to durable entities.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_cluster::NodeBuilder;
use actor_core::{Ctx, Entity, Result, clock::Clock, handlers};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Plan,
    load::closed_loop,
    node::Node,
    report::{Line, per_second, rounded},
};

/// Bytes of a state that are not the counter: with names and the counter it comes to about 200.
const PADDING: usize = 176;

/// How often it is looked whether all casts were handled, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 12_000;

/// An entity with about 200 bytes of state.
#[derive(Debug, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Account {
    balance: u64,
    padding: String,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            balance: 0,
            padding: "x".repeat(PADDING),
        }
    }
}

/// How many casts were handled.
#[derive(Debug, Default)]
struct Handled(Arc<AtomicU64>);

#[handlers]
impl Account {
    /// Adds; returns the sum.
    pub fn add(&mut self, number: u64) -> u64 {
        self.balance += number;
        self.balance
    }

    /// Returns the sum.
    pub fn balance(&self) -> u64 {
        self.balance
    }

    /// Adds and counts that it did.
    pub fn note(&mut self, number: u64, ctx: &mut Ctx<Self>) {
        self.balance += number;
        ctx.resource::<Handled>().0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `durable_call`.
pub(super) async fn call(plan: &Plan) -> Result<Vec<Line>> {
    Ok(vec![keyed("durable_call", plan, plan.entities).await?])
}

/// Runs `durable_call_hot`.
pub(super) async fn hot(plan: &Plan) -> Result<Vec<Line>> {
    Ok(vec![
        keyed("durable_call_hot", plan, 1)
            .await?
            .sized(plan.concurrency, 1),
    ])
}

async fn keyed(name: &str, plan: &Plan, entities: u32) -> Result<Line> {
    let node = Node::start(plan, entities, |node| node.host::<Account>()).await?;
    let accounts: Arc<Vec<_>> = Arc::new(
        (0..entities)
            .map(|id| node.client.entity::<Account>(id))
            .collect(),
    );
    let load = closed_loop(plan, move |turn| {
        let accounts = accounts.clone();
        async move {
            let key = format!("{}-{}", turn.caller, turn.number);
            accounts[turn.pick(accounts.len())].add(1).key(key).await
        }
    });
    Ok(Line::of(name, plan.backend(), plan, &load.await))
}

/// Runs `durable_cast`: counts what was handled, and how long a cast waits to be stored.
pub(super) async fn cast(plan: &Plan) -> Result<Vec<Line>> {
    let handled = Arc::new(AtomicU64::new(0));
    let counter = Handled(handled.clone());
    let hosted = |node: NodeBuilder| node.provide(counter).host::<Account>();
    let node = Node::start(plan, plan.entities, hosted).await?;
    let accounts: Arc<Vec<_>> = Arc::new(
        (0..plan.entities)
            .map(|id| node.client.entity::<Account>(id))
            .collect(),
    );
    let counted = accounts.clone();
    // Without a warm-up that is not measured: what is stored in it would be handled later.
    let plan = Plan {
        warm_up: Duration::ZERO,
        ..plan.clone()
    };
    let started = Clock.now();
    let load = closed_loop(&plan, move |turn| {
        let accounts = accounts.clone();
        async move { accounts[turn.pick(accounts.len())].note(1).cast().await }
    });
    let mut load = load.await;
    let stored = load.ops;
    for _ in 0..LOOKS_MAX {
        if handled.load(Ordering::Relaxed) >= stored {
            break;
        }
        Clock.sleep(LOOK_EVERY).await;
    }
    load.took = Clock.now() - started;
    let mut sum = 0;
    for account in counted.iter() {
        sum += account.balance().await?;
    }
    if sum != stored {
        load.failed(format_args!("{stored} casts were stored, {sum} counted"));
    }
    let line = Line::of("durable_cast", plan.backend(), &plan, &load);
    let stored_per_s = rounded(per_second(stored, plan.measured), 1);
    let handled = handled.load(Ordering::Relaxed);
    Ok(vec![
        line.with("handled", handled)
            .with("stored_per_s", stored_per_s),
    ])
}
