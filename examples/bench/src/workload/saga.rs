//! Sagas: from start to result.

use std::sync::atomic::{AtomicU64, Ordering};

use actor_core::Result;
use actor_workflow::{Run, Saga, SagaClient as _, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Plan,
    load::closed_loop,
    node::Node,
    report::{Line, rounded},
};

/// Steps of the longer one.
const STEPS: u64 = 5;

/// A run without steps.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = u64)]
pub(crate) struct Noop {
    number: u64,
}

impl Run for Noop {
    async fn run(&self, _: &mut Saga) -> Result<u64> {
        Ok(self.number)
    }
}

/// A run of [`STEPS`] steps that do nothing but return.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = u64)]
pub(crate) struct FiveSteps {
    number: u64,
}

impl Run for FiveSteps {
    async fn run(&self, saga: &mut Saga) -> Result<u64> {
        let mut sum = self.number;
        for _ in 0..STEPS {
            sum += saga.step("add one", async |_| Result::<u64>::Ok(1)).await?;
        }
        Ok(sum)
    }
}

/// Runs `saga_noop`.
pub(super) async fn noop(plan: &Plan) -> Result<Vec<Line>> {
    let line = runs("saga_noop", plan, |number| Noop { number }).await?;
    Ok(vec![line])
}

/// Runs `saga_5_steps`.
pub(super) async fn five_steps(plan: &Plan) -> Result<Vec<Line>> {
    let line = runs("saga_5_steps", plan, |number| FiveSteps { number }).await?;
    let steps_per_s = rounded(line.ops_per_s() * STEPS as f64, 1);
    Ok(vec![line.with("steps_per_s", steps_per_s)])
}

async fn runs<W>(name: &str, plan: &Plan, make: fn(u64) -> W) -> Result<Line>
where
    W: Run + actor_core::Component,
{
    let node = Node::start(plan, plan.entities, |node| node.host::<W>()).await?;
    let (client, started) = (node.client.clone(), AtomicU64::new(0));
    let load = closed_loop(plan, move |_| {
        let number = started.fetch_add(1, Ordering::Relaxed);
        let run = client.saga::<W>(format!("run-{number}"));
        async move { run.start(make(number)).await?.result().await }
    });
    // Each run is new: there is no number of entities to choose among.
    Ok(Line::of(name, plan.backend(), plan, &load.await).sized(plan.concurrency, 0))
}
