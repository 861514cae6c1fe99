//! Sagas on virtual time: crashes, bad stores, moves, long waits.
//!
//! Here is the purchase they all make, and whom it touches.

mod crashes;
mod days;
mod moves;
mod replays;
mod sleeps;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::Sim;
use actor_core::{Entity, Failure, Result, clock::Clock, handlers};
use actor_workflow::{Run, Saga, SagaClient, SagaError, SagaRef, Workflow};
use serde::{Deserialize, Serialize};

/// Payments as an outside provider sees them: one charge a key.
#[derive(Clone, Debug, Default)]
struct Provider(Arc<Mutex<Vec<String>>>);

impl Provider {
    fn log(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// Does something once a key.
    fn once(&self, line: String) {
        if !self.log().contains(&line) {
            self.note(line);
        }
    }
}

/// A stock that must never lose or gain anything by a repeat.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Stock {
    taken: i64,
}

#[handlers]
impl Stock {
    pub fn take(&mut self) -> i64 {
        self.taken += 1;
        self.taken
    }

    pub fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub fn taken(&self) -> i64 {
        self.taken
    }
}

/// Takes from the stock, charges, waits, ships.
#[derive(Clone, Debug, Default, Workflow, Serialize, Deserialize)]
#[workflow(output = String)]
pub(crate) struct Buy {
    wait_ms: u64,
    /// The work in a step takes this long.
    slow_ms: u64,
    /// Nothing can be shipped.
    fails: bool,
    /// The last step never ends.
    stalls: bool,
}

impl Run for Buy {
    async fn run(&self, saga: &mut Saga) -> Result<String> {
        saga.step("reserve stock", |step| async move {
            step.entity::<Stock>("tea").take().await
        })
        .compensate(|_, step| async move { step.entity::<Stock>("tea").give_back().await })
        .await?;
        let slow = Duration::from_millis(self.slow_ms);
        saga.step("charge card", |step| async move {
            Clock.sleep_until(Clock.now() + slow).await;
            step.resource::<Provider>()
                .once(format!("charge {}", step.key()));
            Ok::<_, Failure>(step.key().to_string())
        })
        .compensate(|charge, step| async move {
            step.resource::<Provider>().once(format!("refund {charge}"));
            Ok::<_, Failure>(())
        })
        .await?;
        saga.sleep(Duration::from_millis(self.wait_ms)).await;
        saga.step("ship", |_| async move {
            if self.stalls {
                std::future::pending::<()>().await;
            }
            match self.fails {
                true => Err(Failure::fatal("no_van", "all vans are out")),
                false => Ok("shipped".to_owned()),
            }
        })
        .await
    }
}

/// Starts a run, whatever happens to the node that is asked.
async fn start(sim: &Sim, id: impl ToString, input: &Buy) -> SagaRef<Buy> {
    for _ in 0..100 {
        match sim.start(id.to_string(), input.clone()).await {
            Ok(run) => return run,
            Err(refusal) => sim.note(format_args!("start again: {refusal}")),
        }
        sim.advance(Duration::from_millis(300)).await;
    }
    panic!("it does not start");
}

/// Waits for the end of a run, whatever happens to the node that is asked.
async fn end(run: &SagaRef<Buy>) -> Result<String, SagaError> {
    for _ in 0..100 {
        match run.result().await {
            Err(SagaError::Refused(_)) => {}
            other => return other,
        }
    }
    panic!("it does not answer");
}

async fn taken(sim: &Sim) -> i64 {
    let stock = sim.entity::<Stock>("tea");
    let taken = stock.taken().timeout(Duration::from_secs(60)).await;
    taken.expect("it answers")
}
