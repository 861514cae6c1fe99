//! What operators do and see: pause, resume, lists, timelines, calls by name.

use actor_core::{Invocation, Refusal, codec::Codec};
use actor_workflow::{SagaClient, SagaError, State, overview::Query};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON, becomes};

#[tokio::test]
async fn a_paused_run_goes_on_when_resumed() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life.start("a", [Op::Hold, Op::Do("two".into())]).await;
    given.gate.entered().await;
    let pausing = run.clone();
    let pausing = tokio::spawn(async move { pausing.pause().await });
    given.gate.open();

    let paused = pausing.await.expect("no panic");

    assert_eq!(paused, Ok(State::Paused));
    assert_eq!(given.world.log(), ["held"]);
    assert_eq!(super::kit::mailbox_rows(&life).await, 0);
    assert_eq!(run.resume().await, Ok(State::Running));
    assert_eq!(run.result_within(SOON).await, Ok(vec!["two done".into()]));
}

#[tokio::test]
async fn a_paused_sleep_goes_on_sleeping_when_resumed() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life
        .start("a", [Op::Sleep(400), Op::Do("one".into())])
        .await;
    becomes(&run, State::Suspended).await;

    assert_eq!(run.pause().await, Ok(State::Paused));
    assert_eq!(run.resume().await, Ok(State::Suspended));

    assert_eq!(run.result_within(SOON).await, Ok(vec!["one done".into()]));
}

// WF-17
#[tokio::test]
async fn a_paused_run_that_is_cancelled_is_undone_also_after_a_restart() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life
        .start("a", [Op::Do("one".into()), Op::Sleep(3_600_000)])
        .await;
    becomes(&run, State::Suspended).await;
    run.pause().await.expect("pauses");
    life.crash().await;
    let life = Life::begin(folder.path(), &given).await;
    let run = life.trip("a");
    assert_eq!(run.poll().await.map(|poll| poll.state), Ok(State::Paused));

    run.cancel().await.expect("cancels");

    assert_eq!(run.result_within(SOON).await, Err(SagaError::Cancelled));
    assert_eq!(given.world.log(), ["one", "undo one: one done"]);
}

#[tokio::test]
async fn operators_see_runs_states_and_timelines() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let flaky = Op::Flaky {
        fails: 1,
        attempts: 2,
    };
    let done = life.start("a", [flaky, Op::Do("one".into())]).await;
    done.result_within(SOON).await.expect("completes");
    let ops = [Op::Do("two".into()), Op::Sleep(3_600_000)];
    becomes(&life.start("b", ops).await, State::Suspended).await;
    let sagas = life.client.sagas();

    let counts = sagas.counts().await.expect("counts");
    let all = sagas.runs(Query::of("trip")).await.expect("lists");
    let suspended = Query {
        state: Some(State::Suspended),
        ..Query::of("trip")
    };
    let suspended = sagas.runs(suspended).await.expect("lists");
    let timeline = sagas.journal("trip", "a", 0).await.expect("reads");

    let counts: Vec<_> = counts
        .iter()
        .map(|count| (&*count.state, count.runs))
        .collect();
    assert_eq!(counts, [("completed", 1), ("suspended", 1)]);
    assert_eq!(
        all.iter().map(|line| &*line.id).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(all[0].last.as_deref(), Some("end `completed`"));
    assert_eq!(suspended.len(), 1);
    assert_eq!(suspended[0].reason.as_deref(), Some("timer"));
    assert_eq!(suspended[0].last.as_deref(), Some("timer"));
    assert!(suspended[0].wake_at > Some(suspended[0].updated_at));
    let points: Vec<_> = timeline
        .iter()
        .map(|point| (point.what, &*point.name, point.attempts))
        .collect();
    let expected = [
        ("attempt", "flaky", Some(1)),
        ("step", "flaky", Some(2)),
        ("step", "one", Some(1)),
        ("end", "completed", None),
    ];
    assert_eq!(points, expected);
    assert_eq!(timeline[2].value, Some(json!("one done")));
}

async fn by_name(life: &Life, method: &str, args: &Value) -> Result<Value, Refusal> {
    let args = serde_json::to_vec(args).expect("encodes");
    let invocation = Invocation::new("trip", "a", method).args(Codec::Json, args);
    let answer = life.client.invoke(invocation).await?;
    Ok(serde_json::from_slice(&answer.bytes).expect("json"))
}

#[tokio::test]
async fn gateways_start_and_ask_by_name_in_json() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let input = json!({"ops": [{"Do": "one"}, {"Fail": "closed"}]});

    let started = by_name(&life, "start", &input).await;
    let ended = by_name(&life, "result", &json!({"wait_ms": 10_000})).await;

    assert_eq!(started, Ok(json!({"id": "a", "state": "running"})));
    let error = json!({"kind": "closed", "message": "as asked", "fatal": false, "data": 7});
    let expected = json!({"id": "a", "state": "failed", "error": error});
    assert_eq!(ended, Ok(expected));
}

#[tokio::test]
async fn bad_input_and_unknown_methods_say_what_is_accepted() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;

    let input = by_name(&life, "start", &json!({"oops": 1})).await;
    let method = by_name(&life, "explode", &json!({})).await;
    let wait = by_name(&life, "result", &json!({"wait": 1})).await;

    let Err(Refusal::Decode(input)) = input else {
        panic!("{input:?}")
    };
    assert!(
        input.starts_with("the input of `trip`: missing field `ops`"),
        "{input}"
    );
    let Err(Refusal::NotHosted(method)) = method else {
        panic!("{method:?}")
    };
    assert!(method.contains("not `explode`"), "{method}");
    assert!(matches!(wait, Err(Refusal::Decode(_))), "{wait:?}");
}

#[tokio::test]
async fn an_input_above_its_bound_is_refused() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let large = "x".repeat(1024 * 1024);

    let refused = life
        .trip("a")
        .start(super::kit::Trip::of([Op::Do(large)]))
        .await;

    assert!(matches!(refused, Err(Refusal::TooLarge(_))), "{refused:?}");
}
