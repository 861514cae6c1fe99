//! Replay on virtual time: a body that changed between two lives is noticed, and no body is told
//! what the journal does not hold.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{Failure, Result};
use actor_workflow::{Run, Saga, SagaClient, SagaError, State, Workflow};
use serde::{Deserialize, Serialize};

use super::Provider;

const MINUTE: Duration = Duration::from_secs(60);

/// How long a recipe sleeps between its steps.
const NAP: Duration = Duration::from_secs(600);

async fn noted(saga: &mut Saga, name: &'static str) -> Result<()> {
    let step = saga.step(name, |step| async move {
        step.resource::<Provider>().note(name.to_owned());
        Ok::<_, Failure>(())
    });
    step.await
}

/// The first form of a recipe.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(kind = "shifty")]
struct Before;

impl Run for Before {
    async fn run(&self, saga: &mut Saga) -> Result<()> {
        noted(saga, "one").await?;
        saga.sleep(NAP).await;
        noted(saga, "two").await
    }
}

/// The same recipe with a step renamed.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(kind = "shifty")]
struct After;

impl Run for After {
    async fn run(&self, saga: &mut Saga) -> Result<()> {
        noted(saga, "uno").await?;
        saga.sleep(NAP).await;
        noted(saga, "two").await
    }
}

/// Stops the node and starts the next release of its program.
async fn upgrade<C: actor_core::Component>(sim: &Sim) {
    sim.release::<C>();
    sim.crash(0);
    sim.restart(0).await;
}

#[sim::test(host(Before), seeds = 4)]
async fn a_changed_body_is_stopped_by_name_and_without_effects(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let run = sim.start("a", Before).await.expect("starts");
    sim.advance(MINUTE).await;
    let asleep = run.poll().await.map(|poll| poll.state);

    upgrade::<(After,)>(&sim).await;
    sim.advance(NAP).await;

    let poll = run.poll().await.expect("it answers");
    assert_eq!((asleep, poll.state), (Ok(State::Suspended), State::Stuck));
    let expected =
        "NonDeterministic: at position 0 the journal has step `one`, the body has step `uno`";
    assert_eq!(poll.reason.as_deref(), Some(expected));
    assert_eq!(provider.log(), ["one"]);

    upgrade::<(Before,)>(&sim).await;
    let resumed = run.resume().await;
    sim.advance(MINUTE).await;

    assert_eq!(resumed, Ok(State::Running), "the old recipe is back");
    assert_eq!(run.result().await, Ok(()));
    assert_eq!(provider.log(), ["one", "two"]);
}

/// A lottery that never gives the same number twice, and what was told about it.
#[derive(Clone, Debug, Default)]
struct Lottery(Arc<Mutex<(u64, Vec<u64>)>>);

impl Lottery {
    fn draw(&self) -> u64 {
        let mut lottery = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lottery.0 += 1;
        lottery.0
    }

    fn tell(&self, drawn: u64) {
        let mut lottery = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lottery.1.push(drawn);
    }

    fn told(&self) -> Vec<u64> {
        let lottery = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lottery.1.clone()
    }
}

/// Draws a number and tells the world which it was.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = u64)]
struct Draw;

impl Run for Draw {
    async fn run(&self, saga: &mut Saga) -> Result<u64> {
        let drawn = saga.step("draw", |step| async move {
            Ok::<_, Failure>(step.resource::<Lottery>().draw())
        });
        let drawn = drawn.await?;
        let told = saga.step("tell", |step| async move {
            step.resource::<Lottery>().tell(drawn);
            Ok::<_, Failure>(())
        });
        told.await?;
        Ok(drawn)
    }
}

/// Each seed lets the node die at another commit of the run, before it or after it.
#[sim::test(host(Draw), seeds = 12)]
async fn a_body_goes_on_with_what_the_journal_holds_and_nothing_else(sim: Sim) {
    let lottery = Lottery::default();
    sim.provide(lottery.clone());
    let (commit, after) = ((sim.seed() - 1) / 2, sim.seed().is_multiple_of(2));
    let crash = if after {
        Fault::crash_after()
    } else {
        Fault::crash_before()
    };
    sim.fault(0, crash.only("commit").skip(commit));

    let run = loop {
        if let Ok(run) = sim.start("a", Draw).await {
            break run;
        }
    };
    let drawn = loop {
        match run.result().await {
            Err(SagaError::Refused(_)) => {}
            ended => break ended.expect("it completes"),
        }
    };

    let told = lottery.told();
    assert!(!told.is_empty());
    assert!(told.iter().all(|told| *told == drawn), "{told:?} {drawn}");
}
