//! A node that dies at any point of a run: nothing is lost, nothing counts twice.

use actor_workflow::{SagaError, State};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON, Tally, Trap};

/// Runs `ops` with the node dying at the `at`-th point; `None` once the run ends before it. Returns
/// the point's name, what the run came to in the next life, and the tally.
async fn dying_at(
    at: usize,
    ops: &[Op],
    given: &Given,
) -> Option<(String, Result<Vec<String>, SagaError>, i64)> {
    let folder = TempDir::new().expect("a folder");
    let trap = Trap::at(at);
    let armed = Given {
        trap: Some(trap.clone()),
        ..given.clone()
    };
    let life = Life::begin(folder.path(), &armed).await;
    let run = life.trip("a");
    let (starting, input) = (run.clone(), super::kit::Trip::of(ops.to_vec()));
    let running = async move {
        starting.start(input).await.expect("it starts");
        starting.result_within(SOON).await
    };
    let point = tokio::select! {
        biased;
        point = trap.sprung() => point,
        _ = running => return None,
    };
    life.crash().await;

    let life = Life::begin(folder.path(), given).await;
    let run = life.start("a", ops.to_vec()).await;
    let result = run.result_within(SOON).await;
    assert_eq!(life.hosting.stuck().await.expect("reads"), 0);
    assert_eq!(
        super::kit::mailbox_rows(&life).await,
        0,
        "after dying at {point}"
    );
    let sum = life.client.entity::<Tally>("t").sum().await.expect("reads");
    life.crash().await;
    Some((point, result, sum))
}

/// Checks that everything in `order` happened in that order, and only the step whose end was not
/// written down happened twice.
fn assert_in_order(given: &Given, order: &[&str], point: &str) {
    let mut log = given.world.log();
    let twice = log.len() - order.len();
    log.dedup();
    assert_eq!(log, order, "after dying at {point}");
    assert!(
        twice <= 1,
        "{twice} steps happened twice after dying at {point}"
    );
}

#[tokio::test]
async fn a_completed_run_did_each_step_once_wherever_its_node_died() {
    let ops = [
        Op::Do("one".into()),
        Op::Add,
        Op::Sleep(20),
        Op::Add,
        Op::Do("two".into()),
    ];
    let mut points = Vec::new();
    for at in 1.. {
        let given = Given::default();
        let Some((point, result, sum)) = dying_at(at, &ops, &given).await else {
            break;
        };
        let told = ["one done", "added to 1", "added to 2", "two done"].map(String::from);
        assert_eq!(result, Ok(told.to_vec()), "after dying at {point}");
        assert_eq!(sum, 2, "after dying at {point}");
        assert_in_order(&given, &["one", "two"], &point);
        points.push(point);
    }
    assert!(points.len() >= 18, "{points:?}");
}

// WF-13
#[tokio::test]
async fn a_failed_run_is_undone_last_first_and_once_wherever_its_node_died() {
    let ops = [
        Op::Do("one".into()),
        Op::Add,
        Op::Do("two".into()),
        Op::Fail("closed".into()),
    ];
    let mut points = Vec::new();
    for at in 1.. {
        let given = Given::default();
        let Some((point, result, sum)) = dying_at(at, &ops, &given).await else {
            break;
        };
        let Err(SagaError::Failed(failure)) = result else {
            panic!("{result:?} after dying at {point}");
        };
        assert_eq!(failure.kind, "closed");
        assert_eq!(sum, 0, "after dying at {point}");
        let order = ["one", "two", "undo two: two done", "undo one: one done"];
        assert_in_order(&given, &order, &point);
        points.push(point);
    }
    assert!(points.len() >= 22, "{points:?}");
}

// WF-17
#[tokio::test]
async fn a_cancelled_run_is_undone_wherever_its_node_died() {
    for at in 1.. {
        let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
        let life = Life::begin(folder.path(), &given).await;
        let run = life
            .start("a", [Op::Do("one".into()), Op::Sleep(3_600_000)])
            .await;
        super::kit::becomes(&run, State::Suspended).await;
        life.crash().await;
        let trap = Trap::at(at);
        let armed = Given {
            trap: Some(trap.clone()),
            ..given.clone()
        };
        let life = Life::begin(folder.path(), &armed).await;
        let run = life.trip("a");
        let cancelling = async move {
            run.cancel().await.expect("it is cancelled");
            run.result_within(SOON).await
        };
        let point = tokio::select! {
            biased;
            point = trap.sprung() => point,
            ended = cancelling => {
                assert_eq!(ended, Err(SagaError::Cancelled));
                assert!(at > 5, "only {at} points");
                return;
            }
        };
        life.crash().await;

        let life = Life::begin(folder.path(), &given).await;
        let run = life.trip("a");
        // A promise that was not stored is made again.
        run.cancel().await.expect("it is cancelled");

        assert_eq!(
            run.result_within(SOON).await,
            Err(SagaError::Cancelled),
            "at {point}"
        );
        assert_in_order(&given, &["one", "undo one: one done"], &point);
        life.crash().await;
    }
}

#[tokio::test]
async fn attempts_are_counted_across_lives() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    // Points: start, started, flaky, append attempt, appended attempt.
    let trap = Trap::at(5);
    let armed = Given {
        trap: Some(trap.clone()),
        ..given.clone()
    };
    let life = Life::begin(folder.path(), &armed).await;
    life.start(
        "a",
        [Op::Flaky {
            fails: 1,
            attempts: 2,
        }],
    )
    .await;
    assert_eq!(trap.sprung().await, "appended attempt");
    life.crash().await;

    let life = Life::begin(folder.path(), &given).await;

    let told = life.trip("a").result_within(SOON).await;
    assert_eq!(told, Ok(vec!["attempt 2".into()]));
    assert_eq!(given.world.log(), ["attempt 1", "attempt 2"]);
}

#[tokio::test]
async fn a_run_that_kills_its_node_each_time_is_stuck_at_last() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    life.start("a", [Op::Hold]).await;
    given.gate.entered().await;
    life.crash().await;
    for _ in 0..10 {
        let life = Life::begin(folder.path(), &given).await;
        given.gate.entered().await;
        life.crash().await;
    }

    let life = Life::begin(folder.path(), &given).await;
    let run = life.trip("a");
    let poll = super::kit::becomes(&run, State::Stuck).await;

    let reason = poll.reason.expect("a reason");
    assert_eq!(reason, "it ran each of the last 10 times its node died");
    given.gate.open();
    assert_eq!(run.resume().await, Ok(State::Running));
    assert_eq!(run.result_within(SOON).await, Ok(Vec::new()));
}
