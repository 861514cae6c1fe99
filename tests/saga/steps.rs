//! Steps: run once, told through the journal, retried.

use actor_core::{Failure, Refusal};
use actor_workflow::{SagaError, State};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON};

fn failed(kind: &str, message: &str) -> SagaError {
    SagaError::Failed(Failure::new(kind, message))
}

#[tokio::test]
async fn a_run_returns_what_its_body_returns() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let run = life
        .start("a", [Op::Do("one".into()), Op::Do("two".into())])
        .await;

    let result = run.result_within(SOON).await;
    assert_eq!(result, Ok(vec!["one done".into(), "two done".into()]));
    assert_eq!(given.world.log(), ["one", "two"]);
    assert_eq!(
        run.poll().await.map(|poll| poll.state),
        Ok(State::Completed)
    );
}

// WF-14
#[tokio::test]
async fn a_step_is_tried_again_until_it_succeeds() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let flaky = Op::Flaky {
        fails: 2,
        attempts: 5,
    };
    let run = life.start("a", [flaky]).await;

    assert_eq!(run.result_within(SOON).await, Ok(vec!["attempt 3".into()]));
    assert_eq!(given.world.log(), ["attempt 1", "attempt 2", "attempt 3"]);
    let keys = given.world.keys();
    assert!(
        keys.iter().all(|key| *key == keys[0]),
        "one key for all attempts"
    );
}

// WF-14
#[tokio::test]
async fn the_last_attempts_failure_is_the_steps() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let flaky = Op::Flaky {
        fails: 9,
        attempts: 3,
    };
    let run = life.start("a", [flaky]).await;

    let result = run.result_within(SOON).await;
    assert_eq!(result, Err(failed("flaky", "not at attempt 3")));
    assert_eq!(given.world.log().len(), 3);
}

#[tokio::test]
async fn a_fatal_failure_stops_the_attempts() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let run = life.start("a", [Op::Fatal]).await;

    let Err(SagaError::Failed(failure)) = run.result_within(SOON).await else {
        panic!("it fails");
    };
    assert_eq!((&*failure.kind, failure.fatal), ("declined", true));
    assert_eq!(given.world.count("fatal"), 1);
}

// WF-6, WF-7
#[tokio::test]
async fn a_panicking_step_is_a_failure_the_body_may_handle() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let run = life.start("a", [Op::Panic, Op::Do("next".into())]).await;

    let result = run.result_within(SOON).await;
    assert_eq!(
        result,
        Ok(vec!["panicked: oh no".into(), "next done".into()])
    );
}

#[tokio::test]
async fn the_same_start_again_is_the_same_run() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let ops = [Op::Do("one".into())];
    life.start("a", ops.clone())
        .await
        .result_within(SOON)
        .await
        .expect("completes");

    let again = life.start("a", ops).await;

    assert_eq!(again.result_within(SOON).await, Ok(vec!["one done".into()]));
    assert_eq!(given.world.count("one"), 1);
}

#[tokio::test]
async fn a_start_with_another_input_is_refused() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    life.start("a", [Op::Values]).await;

    let other = life
        .trip("a")
        .start(super::kit::Trip::of([Op::Panic]))
        .await;

    assert_eq!(other.map(drop), Err(Refusal::KeyReused));
}

#[tokio::test]
async fn a_run_that_was_never_started_is_not_hosted() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let poll = life.trip("nobody").poll().await;

    assert!(matches!(poll, Err(Refusal::NotHosted(_))), "{poll:?}");
}

#[tokio::test]
async fn many_callers_wait_for_one_run() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life.start("a", [Op::Hold]).await;
    given.gate.entered().await;

    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let run = run.clone();
            tokio::spawn(async move { run.result_within(SOON).await })
        })
        .collect();
    assert_eq!(run.poll().await.map(|poll| poll.state), Ok(State::Running));
    given.gate.open();

    for waiting in waiting {
        assert_eq!(waiting.await.expect("no panic"), Ok(Vec::new()));
    }
}
