//! Columns that hold what they are not for: a run that cannot be read is stuck, the others go on.

use actor_core::store::sql::Sql;
use actor_workflow::{SagaClient, State, overview::Query};
use tempfile::TempDir;

use super::kit::{Given, Life, Op, SOON, becomes, mailbox_rows};

/// What is done to a sleeping run, with part of the reason it shows then.
const SPOILED: &[(&str, &str)] = &[
    ("UPDATE mailbox SET id = x'01'", "dead letter"),
    ("UPDATE mailbox SET attempts = 'many'", ""),
    ("UPDATE mailbox SET method = x'ff'", "dead letter"),
    ("UPDATE journal SET entry = 'no bytes'", "journal"),
    ("UPDATE journal SET at = 'never'", "journal"),
    ("UPDATE journal SET seq = 'first' WHERE seq = 1", "journal"),
    ("UPDATE runs SET state = x'ff'", "row"),
    ("UPDATE runs SET input = 1.5", "row"),
    ("UPDATE runs SET version = 'one'", "row"),
];

async fn change(life: &Life, sql: &'static str) -> u64 {
    let changed = life.hosting.store().write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(sql), Vec::new()).await })
    });
    changed.await.expect("the store answers")
}

#[tokio::test]
async fn a_run_with_a_bad_column_is_stuck_and_the_others_go_on() {
    for (sql, why) in SPOILED {
        let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
        let life = Life::begin(folder.path(), &given).await;
        let run = life
            .start("a", [Op::Do("one".into()), Op::Sleep(3_600_000)])
            .await;
        becomes(&run, State::Suspended).await;
        assert!(change(&life, sql).await > 0, "{sql}");
        let due = change(&life, "UPDATE mailbox SET due_at = NULL").await;
        assert_eq!(due, 1, "{sql}");
        life.crash().await;

        let life = Life::begin(folder.path(), &given).await;
        let other = life.start("b", [Op::Do("two".into())]).await;
        let (spoiled, sound) = (
            becomes(&life.trip("a"), State::Stuck).await,
            other.result_within(SOON).await,
        );

        let reason = spoiled.reason.unwrap_or_default();
        assert!(reason.contains(why), "{sql}: {reason}");
        assert_eq!(sound, Ok(vec!["two done".into()]), "{sql}");
        let sagas = life.client.sagas();
        let listed = sagas
            .runs(Query::of("trip"))
            .await
            .expect("they are listed");
        assert_eq!(listed.len(), 2, "{sql}: {listed:?}");
        let journal = sagas.journal("trip", "a", 0).await;
        assert!(!journal.expect("it is listed").is_empty(), "{sql}");
        let counts = sagas.counts().await.expect("they are counted");
        assert_eq!(
            counts.iter().map(|count| count.runs).sum::<u64>(),
            2,
            "{sql}"
        );
        life.hosting.sweep().await.expect("sweeps");
        life.crash().await;
    }
}

#[tokio::test]
async fn a_run_that_lost_its_stored_message_goes_on_when_resumed() {
    let (folder, given) = (TempDir::new().expect("a folder"), Given::default());
    let life = Life::begin(folder.path(), &given).await;
    let run = life
        .start("a", [Op::Sleep(400), Op::Do("one".into())])
        .await;
    becomes(&run, State::Suspended).await;
    let spoil = "UPDATE mailbox SET id = x'01', due_at = NULL";
    assert_eq!(change(&life, spoil).await, 1);
    life.hosting.poll(0).await.expect("polls");
    becomes(&run, State::Stuck).await;
    assert_eq!(mailbox_rows(&life).await, 0);

    run.resume().await.expect("resumes");

    assert_eq!(run.result_within(SOON).await, Ok(vec!["one done".into()]));
}
