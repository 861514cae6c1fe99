//! The kinds the tests host.

use std::time::Duration;

use actor_core::{Ctx, Entity, handlers};
use serde::{Deserialize, Serialize};

/// Counts, and keeps the count.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Counter {
    count: u64,
}

#[handlers]
impl Counter {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }

    /// Returns the sum.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds here and, by a stored message, to another counter.
    pub async fn add_both(&mut self, amount: u64, other: String, ctx: &mut Ctx<Self>) -> u64 {
        self.count += amount;
        let other = ctx.entity::<Counter>(other);
        other
            .add(amount)
            .cast()
            .await
            .expect("it becomes part of the commit");
        self.count
    }

    /// Adds after a while.
    pub async fn add_slowly(&mut self, amount: u64, ms: u64, ctx: &mut Ctx<Self>) -> u64 {
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
        self.count += amount;
        self.count
    }

    /// Asks another counter for its sum.
    pub async fn ask(&self, other: String, ctx: &mut Ctx<Self>) -> u64 {
        let sum = ctx.entity::<Counter>(other).count().await;
        sum.expect("the other counter answers")
    }
}

/// Wakes itself later, and keeps when it was woken.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Alarm {
    rung: Vec<(i64, i64)>,
}

#[handlers]
impl Alarm {
    /// Rings once `after` milliseconds have passed.
    pub async fn set(&mut self, after: u64, ctx: &mut Ctx<Self>) {
        let due = ctx.hosting().store().now_ms() + after.cast_signed();
        let me = ctx.entity::<Alarm>(ctx.id());
        let ring = me.ring(due).after(Duration::from_millis(after)).await;
        ring.expect("it becomes part of the commit");
    }

    /// Notes when it was due and when it rang.
    pub async fn ring(&mut self, due: i64, ctx: &mut Ctx<Self>) {
        self.rung.push((due, ctx.hosting().store().now_ms()));
    }

    /// Returns when it was due and when it rang.
    pub fn rung(&self) -> Vec<(i64, i64)> {
        self.rung.clone()
    }
}

/// Counts, and forgets when it leaves memory.
#[derive(Debug, Default, Entity)]
pub(crate) struct Tally {
    count: u64,
}

#[handlers]
impl Tally {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }

    /// Does nothing for a while, and may do so twice.
    #[idempotent]
    pub async fn wait_again(&self, ms: u64, ctx: &mut Ctx<Self>) -> u64 {
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
        ms
    }

    /// Does nothing for a while.
    pub async fn wait(&self, ms: u64, ctx: &mut Ctx<Self>) {
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
    }
}

#[handlers]
impl Greeter {
    /// Greets with the node's greeting.
    pub fn greet(&self, whom: String, ctx: &mut Ctx<Self>) -> String {
        format!("{}, {whom}", ctx.resource::<Greeting>().0)
    }
}

/// Greets.
#[derive(Debug, Default, Entity)]
pub(crate) struct Greeter;

/// What nodes greet with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting(pub(crate) &'static str);
