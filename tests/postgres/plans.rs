//! A million rows: what runs all day finds its rows by an index (architecture D17).

use std::time::Duration;

use actor_core::{
    id::{CallId, ShardId},
    store::{
        BoxFuture, Connection, Sql, Store, StoreError, dead_letters, entities, mailbox, replies,
        topics,
    },
};
use actor_tests::{
    Context as _, Result,
    bed::{Backend, Bed, SHARDS},
};
use actor_workflow::store::{journal, runs};

use crate::{
    rows::{event, reply, send, state},
    sessions::{patient, soon},
};

/// Half of the messages are timers of the next year, a thousand are ready; no row is due.
const FILL: &[&str] = &[
    "INSERT INTO entities (kind, id, shard, version, base, shape, state, updated_at)
     SELECT 'cart', 'c-' || n, n % 8, 1, 0, 1, '\\x00', 0 FROM generate_series(1, 300000) AS n",
    "INSERT INTO replies (kind, entity, id, shard, hash, ok, outcome, expires_at)
     SELECT 'cart', 'c-' || n, decode(lpad(to_hex(n), 32, '0'), 'hex'), n % 8, 0, 1, '\\x00',
       actor_now() + n FROM generate_series(1, 300000) AS n",
    "INSERT INTO mailbox
       (shard, kind, entity, id, method, codec, args, context, due_at, created_at)
     SELECT n % 8, 'cart', 'c-' || n, decode(lpad(to_hex(n), 32, '0'), 'hex'), 'add', 'json',
       '\\x7b7d', '', CASE WHEN n > 1000 THEN actor_now() + 3600000 + n END, actor_now()
     FROM generate_series(1, 1000000) AS n",
    "INSERT INTO dead_letters (what, shard, kind, entity, id, method, codec, args, context,
       attempts, error, created_at, died_at)
     SELECT 'message', n % 8, 'cart', 'c', decode(lpad(to_hex(n), 32, '0'), 'hex'), 'add',
       'json', '', '', 10, 'why', 0, actor_now() + n FROM generate_series(1, 50000) AS n",
    "INSERT INTO streams SELECT 't-' || n, 1, 300 FROM generate_series(1, 1000) AS n",
    "INSERT INTO events SELECT 't-' || n, o, 'said', NULL, '\\x00', 0
     FROM generate_series(1, 1000) AS n, generate_series(1, 300) AS o",
    "INSERT INTO runs (kind, id, shard, state, version, input, context, created_at, updated_at,
       finished_at)
     SELECT 'trip', 'r-' || n, n % 8, CASE WHEN n % 3 > 0 THEN 'completed' ELSE 'suspended' END,
       1, '\\x00', '', 0, 0, CASE WHEN n % 3 > 0 THEN actor_now() - n END
     FROM generate_series(1, 300000) AS n",
    "INSERT INTO journal SELECT 'trip', 'r-' || n, s, n % 8, '\\x00', 0
     FROM generate_series(1, 300000) AS n, generate_series(1, 3) AS s",
];

/// Tables that grow, in which a scan of all rows would be felt.
const LARGE: &[&str] = &[
    "entities",
    "replies",
    "mailbox",
    "events",
    "dead_letters",
    "runs",
    "journal",
];

async fn fill(bed: &Bed) -> Result<()> {
    for text in FILL {
        let sql = Sql::same(text);
        bed.sql(move |c| Box::pin(async move { c.execute(&sql, vec![]).await }))
            .await?;
    }
    for table in LARGE {
        let sql = Sql::same(String::leak(format!("ANALYZE {table}")));
        bed.sql(move |c| Box::pin(async move { c.execute(&sql, vec![]).await }))
            .await?;
    }
    Ok(())
}

/// Runs once what nodes run all day, so that the session has prepared it.
fn run_all(c: &mut Connection) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let shards: Vec<_> = (0..SHARDS).map(ShardId).collect();
        let place = entities::Place {
            kind: "cart".into(),
            id: "c-7".into(),
            shard: ShardId(7),
        };
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        mailbox::ready(c, &shards, 500, 256).await?;
        mailbox::timers(c, &shards, minute, 256).await?;
        mailbox::of_entity(c, &place, 0, 64).await?;
        mailbox::overdue(c, &shards, minute, 256).await?;
        mailbox::last_seq(c).await?;
        mailbox::backlog(c).await?;
        replies::find(c, &place, CallId(7)).await?;
        replies::delete_expired(c, 1000).await?;
        entities::load(c, &place).await?;
        entities::list(c, "cart", "c-5", 100).await?;
        dead_letters::prune(c, day, 1000).await?;
        topics::since(c, "t-7", topics::Position::default(), 100).await?;
        topics::trim(c, "t-7", 290).await?;
        topics::trim_all(c, 295, 10).await?;
        run_all_of_sagas(c).await
    })
}

/// As [`run_all`], of sagas.
fn run_all_of_sagas(c: &mut Connection) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let run = entities::Place {
            kind: "trip".into(),
            id: "r-7".into(),
            shard: ShardId(7),
        };
        runs::load(c, &run).await?;
        runs::list(c, "trip", None, "r-5", 100).await?;
        runs::list(c, "trip", Some("suspended"), "r-5", 100).await?;
        runs::counts(c).await?;
        runs::open(c).await?;
        runs::prune(c, Duration::from_secs(86_400), 200).await?;
        journal::load(c, "trip", "r-7", 0, 100).await?;
        Ok(())
    })
}

const PREPARED: Sql = Sql::same(
    "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements
     WHERE statement ~ $1 AND statement !~ 'INSERT|generate_series|ANALYZE|pg_prepared'",
);

/// Returns text and plan of each statement that the session prepared and that names one of these
/// tables.
async fn plans_of(
    c: &mut Connection,
    tables: &'static str,
) -> Result<Vec<(String, String)>, StoreError> {
    // As it would be planned for any parameters: after five runs the server may keep such a plan.
    const GENERIC: Sql = Sql::same("SET LOCAL plan_cache_mode = force_generic_plan");
    c.execute(&GENERIC, vec![]).await?;
    let mut plans = Vec::new();
    for row in c.query(&PREPARED, vec![tables.into()]).await? {
        let (name, text) = (row.text(0)?, row.text(1)?);
        let nulls = match row.small(2)? as usize {
            0 => String::new(),
            count => format!("({})", vec!["NULL"; count].join(", ")),
        };
        let explain = format!("EXPLAIN EXECUTE \"{name}\" {nulls}");
        let explain = Sql::same(String::leak(explain));
        let lines = c.query(&explain, vec![]).await?;
        let lines: Result<Vec<_>, _> = lines.iter().map(|line| line.text(0)).collect();
        plans.push((text, lines?.join("\n")));
    }
    Ok(plans)
}

/// Returns text and plan of each statement that a session prepared for `run_all`.
fn plans(c: &mut Connection) -> BoxFuture<'_, Result<Vec<(String, String)>, StoreError>> {
    Box::pin(async move {
        run_all(c).await?;
        plans_of(
            c,
            "mailbox|replies|entities|dead_letters|events|runs|journal",
        )
        .await
    })
}

/// All topics are read elsewhere, some at a time; nodes that look for lost events name theirs.
#[tokio::test]
async fn the_places_of_topics_are_found_by_their_names() -> Result<()> {
    const TOPICS: Sql = Sql::same(
        "INSERT INTO streams SELECT 't-' || n, 1, 300 FROM generate_series(1, 50000) AS n",
    );
    const COUNTED: Sql = Sql::same("ANALYZE streams");
    let bed = Bed::with(Backend::postgres(""), patient()).await?;
    bed.sql(|c| Box::pin(async move { c.execute(&TOPICS, vec![]).await }))
        .await?;
    bed.sql(|c| Box::pin(async move { c.execute(&COUNTED, vec![]).await }))
        .await?;

    let plans = bed.sql(|c| {
        Box::pin(async move {
            topics::positions(c, &["t-7".into()]).await?;
            plans_of(c, "FROM streams").await
        })
    });

    let plans = plans.await?;
    let [(_, plan)] = plans.as_slice() else {
        panic!("one statement: {plans:#?}")
    };
    assert!(plan.contains("Index Scan using streams_pkey"), "{plan}");
    Ok(())
}

#[tokio::test]
async fn what_runs_all_day_finds_its_rows_by_an_index() -> Result<()> {
    let bed = Bed::with(Backend::postgres(""), patient()).await?;
    fill(&bed).await?;

    let plans = bed.sql(|c| plans(c)).await?;

    assert!(plans.len() >= 20, "{} statements: {plans:#?}", plans.len());
    let scans = |plan: &str| {
        let mut scans = LARGE.iter().map(|table| format!("Seq Scan on {table}"));
        scans.any(|scan| plan.contains(&scan))
    };
    // What is counted is bounded, so nothing may be read only to be left out.
    let filters = |text: &str, plan: &str| text.contains("COUNT(*)") && plan.contains("Filter:");
    let bad: Vec<_> = plans
        .iter()
        .filter(|(text, plan)| scans(plan) || filters(text, plan))
        .collect();
    for (text, plan) in &bad {
        println!("{text}\n{plan}\n");
    }
    assert!(
        bad.is_empty(),
        "{} statements read more than they need",
        bad.len()
    );
    lanes_read_little(&bed).await
}

/// Returns how often large tables were read from end to end, and by an index, as far as sessions
/// have reported it.
async fn scans(store: &Store) -> Result<(i64, i64)> {
    const SCANS: Sql = Sql::same(
        "SELECT sum(seq_scan)::bigint, sum(idx_scan)::bigint FROM pg_stat_user_tables
         WHERE schemaname = current_schema() AND relname = ANY(string_to_array($1, ' '))",
    );
    let names = LARGE.join(" ");
    let read = store.write("scans", move |c| {
        Box::pin(async move { c.query_one(&SCANS, vec![names.into()]).await })
    });
    let row = read.await?.context("one row")?;
    Ok((row.int(0)?, row.int(1)?))
}

/// A batch of each kind of write reads no table from end to end.
async fn lanes_read_little(bed: &Bed) -> Result<()> {
    const BATCHES: u64 = 10;
    let (cart, others) = (bed.cart("new"), bed.second_store().await?);
    let (from_end_to_end, by_index) = scans(&others).await?;
    for n in 1..=BATCHES {
        let id = 10_000_000 + u128::from(n);
        let seq = |from: u64| i64::try_from(from + n).unwrap_or_default();
        let mut writes = vec![
            state(&cart, n, "x"),
            reply(&cart, id, "ok"),
            send(&cart, id),
            mailbox::delete(seq(0)),
            mailbox::count_attempt(seq(500)),
            mailbox::record_failure(seq(500), 1, "why"),
            event("t-7", "x"),
        ];
        writes.extend(dead_letters::bury(seq(700), "why"));
        let verdict = bed.commit(cart.shard, writes).await;
        assert!(verdict.is_committed(), "{verdict:?}");
    }

    // Sessions report what they read when they end, at the latest, and all of it at once.
    bed.lanes.stop().await;
    bed.store.close().await?;
    let at_least = by_index + i64::try_from(3 * BATCHES)?;
    let reported = async || {
        scans(&others)
            .await
            .ok()
            .filter(|scans| scans.1 >= at_least)
    };
    let reported = soon().poll("the lane's session reports", reported).await?;

    assert_eq!(reported.0, from_end_to_end);
    Ok(())
}
