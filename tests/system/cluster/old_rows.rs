//! Tables full of rows that are dead and cannot be cleaned away, because a forgotten session holds
//! them: what runs all day must go on.

use actor_core::store::{Sql, StoreError};
use actor_tests::{Deadline, Program, Result, Seed, Stopwatch};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    load::{Deed, Load},
    nodes::{Cluster, Plan},
    records::Records,
};
use crate::shop::{call, succeed};

/// Dead rows, half of them messages, half of them remembered answers.
const ROWS: i64 = 1_000_000;

/// How many are made at a time: a statement ends within five seconds.
const PIECE: i64 = 25_000;

/// For how many seconds the cluster serves beside them. Its polls for stored messages come every
/// five seconds.
const SERVES: u64 = 60;

/// Timers that are set meanwhile.
const TIMERS: usize = 40;

const PUT: Deed = Deed {
    request: |account, amount| {
        let amount = json!({ "amount": amount });
        call("account", account, "enter", &json!({ "amount": amount }))
    },
    level: |statement| statement["level"].as_i64(),
};

const UNHURRIED: Sql = Sql::same("SET LOCAL idle_in_transaction_session_timeout = 0");
const LOCK: Sql = Sql::same("CREATE TABLE test_forgotten (x bigint)");
const FILL_MAILBOX: Sql = Sql::same(
    "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, due_at, created_at)
     SELECT n % 48, 'account', 'gone-' || n % 1000, decode(md5(n::text), 'hex'), 'ring', 'json',
       '{}', '', CASE WHEN n % 2 = 0 THEN actor_now() END, actor_now()
     FROM generate_series($1::bigint, $2::bigint) AS n",
);
const EMPTY_MAILBOX: Sql = Sql::same("DELETE FROM mailbox WHERE entity LIKE 'gone-%'");
const FILL_REPLIES: Sql = Sql::same(
    "INSERT INTO replies (kind, entity, id, shard, hash, ok, outcome, expires_at)
     SELECT 'account', 'gone', decode(md5(n::text), 'hex'), n % 48, 0, 1, '', actor_now()
     FROM generate_series($1::bigint, $2::bigint) AS n",
);
const EMPTY_REPLIES: Sql = Sql::same("DELETE FROM replies WHERE entity = 'gone'");
const DEAD: Sql = Sql::same(
    "SELECT COALESCE(SUM(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
     WHERE schemaname = current_schema() AND relname IN ('mailbox', 'replies')",
);

/// A transaction that somebody began and forgot.
struct Forgotten {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StoreError>>,
}

impl Forgotten {
    async fn begin(records: &Records) -> Result<Self> {
        let (end, ended) = oneshot::channel();
        let (began, begun) = oneshot::channel();
        // On a store of its own: it keeps the connection.
        let store = records.another().await?;
        let task = tokio::spawn(async move {
            let open = store.write("forget", |c| {
                Box::pin(async move {
                    c.execute(&UNHURRIED, vec![]).await?;
                    c.execute(&LOCK, vec![]).await?;
                    // Nobody may wait for either.
                    let _ = began.send(());
                    let _ = ended.await;
                    Ok(())
                })
            });
            open.await
        });
        begun.await?;
        Ok(Self { end, task })
    }

    async fn end(self) -> Result<()> {
        let _ = self.end.send(());
        Ok(self.task.await??)
    }
}

/// Fills both tables and deletes everything again; nobody else sees the rows while they live.
async fn fill(records: &Records) -> Result<()> {
    for (fill, empty) in [
        (&FILL_MAILBOX, &EMPTY_MAILBOX),
        (&FILL_REPLIES, &EMPTY_REPLIES),
    ] {
        for piece in 0..ROWS / 2 / PIECE {
            let (first, last) = (piece * PIECE + 1, (piece + 1) * PIECE);
            let filled = vec![(fill, vec![first.into(), last.into()]), (empty, vec![])];
            assert_eq!(records.change(filled).await?, PIECE.cast_unsigned());
        }
    }
    Ok(())
}

// Field: an idle session in a transaction holds back the cleaning of a million dead rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_dead_rows_that_cannot_be_cleaned_do_not_stop_anything() -> Result<()> {
    let plan = Plan {
        program: Program::teller,
        proxied: false,
        // The default: making the rows is much work for the server, and leases are not the point.
        lease: "10s",
        ..Plan::proxied()
    };
    let mut cluster = Cluster::start_as(plan).await?;
    let forgotten = Forgotten::begin(&cluster.records).await?;
    fill(&cluster.records).await?;

    let seed = Seed::from_env("--test system old_rows")?;
    let (load, began) = (
        Load::of(PUT, &cluster, seed, &[0, 1, 2]),
        Stopwatch::start(),
    );
    for timer in 0..TIMERS {
        let remind = call(
            "account",
            &format!("t-{timer}"),
            "remind",
            &json!({ "ms": 1500 }),
        );
        succeed(cluster.http(timer % 3), &remind).await?;
    }
    let ends = Deadline::seconds(SERVES);
    let mut answers = 0;
    while !ends.is_past() {
        load.answered(50).await?;
        answers += 50;
    }
    let errors = load.finish().await?;
    let by = Deadline::seconds(30);
    for timer in 0..TIMERS {
        let asked = call("account", &format!("t-{timer}"), "statement", &json!({}));
        by.poll("a timer", async || {
            let found = succeed(cluster.http(timer % 3), &asked).await.ok()?;
            (found["reminded"] == 1).then_some(())
        })
        .await?;
    }
    let dead = cluster.records.number(&DEAD, vec![]).await?;
    // An operator sees both.
    let oldest = cluster.metric(1, "actor_oldest_xmin_age_seconds").await?;
    let seen = cluster.metric(1, "actor_dead_rows").await?;
    forgotten.end().await?;

    for (account, level) in load.levels() {
        let asked = call("account", account, "statement", &json!({}));
        let found = succeed(cluster.http(0), &asked).await?;
        assert_eq!(found["level"].as_i64(), Some(level), "{account}");
    }
    println!(
        "{answers} answers in {:.0?} beside {dead} dead rows, {TIMERS} timers, {errors} repeated",
        began.elapsed()
    );
    // The server counts them roughly.
    assert!(
        dead > ROWS / 10 * 9,
        "cleaned away: the test showed nothing"
    );
    assert!(oldest >= SERVES as f64 - 10.0, "{oldest} s");
    assert!(seen > (ROWS / 10 * 9) as f64, "{seen} dead rows seen");
    assert_eq!(errors, 0, "requests that were not answered at once");
    cluster.stop().await
}
