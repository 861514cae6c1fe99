//! Replay: what is written down is told again, and a changed body is noticed.

use actor_core::{Failure, Result};
use actor_workflow::{Run, Saga, SagaClient, SagaError, State, Workflow};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON, World, becomes};

// WF-1
#[tokio::test]
async fn values_and_steps_before_a_sleep_are_told_again_after_it() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let ops = [
        Op::Values,
        Op::Flaky {
            fails: 1,
            attempts: 3,
        },
        Op::Sleep(30),
        Op::Do("after".into()),
    ];
    let run = life.start("a", ops).await;

    let told = run.result_within(SOON).await.expect("completes");
    assert_eq!(told[1..], ["attempt 2", "after done"]);
    assert_eq!(given.world.log(), ["attempt 1", "attempt 2", "after"]);
}

// WF-11, WF-15
#[tokio::test]
async fn a_sleeping_run_survives_the_death_of_its_node() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let ops = [Op::Do("one".into()), Op::Sleep(300), Op::Do("two".into())];
    let run = life.start("a", ops).await;
    becomes(&run, State::Suspended).await;
    life.crash().await;

    let life = Life::begin(folder.path(), &given).await;

    let told = life.trip("a").result_within(SOON).await;
    assert_eq!(told, Ok(vec!["one done".into(), "two done".into()]));
    assert_eq!(given.world.log(), ["one", "two"]);
}

async fn noted(saga: &mut Saga, name: &'static str) -> Result<()> {
    let step = saga.step(name, |step| async move {
        step.resource::<World>().note(name, step.key());
        Ok::<_, Failure>(())
    });
    step.await
}

/// Drops a step half-way.
#[derive(Debug, Workflow, Serialize, Deserialize)]
struct Impatient;

impl Run for Impatient {
    async fn run(&self, saga: &mut Saga) -> Result<()> {
        let step = saga.step("slow", |_| std::future::pending::<Result<()>>());
        tokio::select! {
            biased;
            done = step.into_future() => done,
            () = std::future::ready(()) => noted(saga, "instead").await,
        }
    }
}

#[tokio::test]
async fn a_step_that_is_dropped_half_way_stops_the_run() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::hosting::<(Impatient,)>(folder.path(), &given).await;

    let run = life
        .client
        .saga::<Impatient>("a")
        .start(Impatient)
        .await
        .expect("starts");

    let reason = becomes(&run, State::Stuck).await.reason.expect("a reason");
    assert_eq!(
        reason,
        "`slow` was dropped before it ended: put the race inside a step instead"
    );
    assert!(given.world.log().is_empty());
}

/// Panics outside its steps.
#[derive(Debug, Workflow, Serialize, Deserialize)]
struct Clumsy {
    times: usize,
}

static FALLS: std::sync::Mutex<usize> = std::sync::Mutex::new(0);

impl Run for Clumsy {
    async fn run(&self, saga: &mut Saga) -> Result<()> {
        noted(saga, "one").await?;
        let fall = {
            let mut falls = FALLS.lock().expect("not poisoned");
            *falls += 1;
            *falls
        };
        if fall <= self.times {
            panic!("fall {fall}");
        }
        noted(saga, "two").await
    }
}

#[tokio::test]
async fn a_body_that_panics_runs_again() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::hosting::<(Clumsy,)>(folder.path(), &given).await;

    let run = life
        .client
        .saga::<Clumsy>("a")
        .start(Clumsy { times: 2 })
        .await;
    let run = run.expect("starts");
    let reason = super::kit::until(&run, |poll| poll.reason.is_some())
        .await
        .reason;

    assert!(reason.is_some_and(|reason| reason.starts_with("panicked: fall")));
    assert_eq!(run.result_within(SOON).await, Ok(()));
    assert_eq!(given.world.log(), ["one", "two"], "no step ran twice");
}

/// Fills its journal.
#[derive(Debug, Workflow, Serialize, Deserialize)]
struct Endless;

impl Run for Endless {
    async fn run(&self, saga: &mut Saga) -> Result<()> {
        let step = saga.step("first", |step| async move {
            step.resource::<World>().note("first", step.key());
            Ok::<_, Failure>(())
        });
        let undo = |(), step: actor_workflow::Step| async move {
            step.resource::<World>().note("undo first", step.key());
            Ok::<_, Failure>(())
        };
        step.compensate(undo).await?;
        loop {
            saga.random().await;
        }
    }
}

#[tokio::test]
async fn a_journal_that_is_full_ends_the_run_as_failed() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::hosting::<(Endless,)>(folder.path(), &given).await;

    let run = life
        .client
        .saga::<Endless>("a")
        .start(Endless)
        .await
        .expect("starts");

    let Err(SagaError::Failed(failure)) = run.result_within(4 * SOON).await else {
        panic!("it fails");
    };
    assert_eq!(failure.kind, "journal_full");
    assert_eq!(given.world.log(), ["first", "undo first"]);
}
