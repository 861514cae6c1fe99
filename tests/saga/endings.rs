//! How runs end: failed, cancelled, undone.

use std::time::Duration;

use actor_workflow::{SagaError, State};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON};

// WF-3
#[tokio::test]
async fn a_failed_run_is_undone_last_first() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let ops = [
        Op::Do("one".into()),
        Op::Flaky {
            fails: 0,
            attempts: 1,
        },
        Op::Do("two".into()),
        Op::Fail("closed".into()),
    ];
    let run = life.start("a", ops).await;

    let Err(SagaError::Failed(failure)) = run.result_within(SOON).await else {
        panic!("it fails");
    };
    assert_eq!(failure.kind, "closed");
    assert_eq!(failure.data, serde_json::json!(7));
    let log = given.world.log();
    assert_eq!(
        log,
        [
            "one",
            "attempt 1",
            "two",
            "undo two: two done",
            "undo one: one done"
        ]
    );
    let mut keys = given.world.keys();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5, "each step and each undoing has its own key");
}

#[tokio::test]
async fn a_failed_step_is_not_undone_itself() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let run = life.start("a", [Op::Do("one".into()), Op::Fatal]).await;

    run.result_within(SOON).await.expect_err("it fails");
    assert_eq!(given.world.log(), ["one", "fatal", "undo one: one done"]);
}

#[tokio::test]
async fn an_undoing_that_fails_is_tried_again() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let ops = [Op::HardToUndo(2), Op::Fail("closed".into())];
    let run = life.start("a", ops).await;

    run.result_within(SOON).await.expect_err("it fails");
    assert_eq!(
        given.world.log(),
        ["undo hard 1", "undo hard 2", "undo hard 3"]
    );
    assert_eq!(run.poll().await.map(|poll| poll.state), Ok(State::Failed));
}

// WF-2
#[tokio::test]
async fn a_sleeping_run_that_is_cancelled_is_undone_at_once() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life
        .start("a", [Op::Do("one".into()), Op::Sleep(3_600_000)])
        .await;
    super::kit::becomes(&run, State::Suspended).await;

    let state = run.cancel().await;

    assert_eq!(state, Ok(State::Running), "it is not over yet");
    assert_eq!(run.result_within(SOON).await, Err(SagaError::Cancelled));
    assert_eq!(given.world.log(), ["one", "undo one: one done"]);
    assert_eq!(
        super::kit::mailbox_rows(&life).await,
        0,
        "its timer is gone"
    );
}

#[tokio::test]
async fn cancelling_lets_the_running_attempt_end_and_undoes_it() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life.start("a", [Op::Hold, Op::Do("never".into())]).await;
    given.gate.entered().await;

    let state = run.cancel().await;
    let meanwhile = run.poll().await.expect("it answers while its step runs");
    given.gate.open();

    assert_eq!(state, Ok(State::Running));
    assert_eq!(meanwhile.reason.as_deref(), Some("cancelling"));
    assert_eq!(run.result_within(SOON).await, Err(SagaError::Cancelled));
    assert_eq!(given.world.log(), ["held", "undo held"]);
}

#[tokio::test]
async fn a_run_that_is_over_stays_as_it_is_when_cancelled() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life.start("a", [Op::Do("one".into())]).await;
    run.result_within(SOON).await.expect("completes");

    assert_eq!(run.cancel().await, Ok(State::Completed));
    assert_eq!(given.world.log(), ["one"]);
}

#[tokio::test]
async fn a_sleep_is_never_early() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let clock = life.hosting.clock();
    let begun = clock.now();

    let run = life
        .start("a", [Op::Sleep(80), Op::Sleep(0), Op::Do("one".into())])
        .await;

    assert_eq!(run.result_within(SOON).await, Ok(vec!["one done".into()]));
    assert!(clock.now() - begun >= Duration::from_millis(80));
}
