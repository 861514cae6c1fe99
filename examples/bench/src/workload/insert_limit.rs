//! The limit: the rows that keyed durable calls must store, written by a bare sqlx loop.
//!
//! SQLite here, PostgreSQL in `postgres`. Same tables and indexes, same bytes, same fence, same
//! durability (`synchronous=FULL`, the log written back beside it), no framework. The bounded form
//! has at most C operations under way, as C callers have: each transaction takes C. The open form
//! takes whatever size of batch is fastest here.

mod postgres;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor_core::{
    Failure, NodeId, Result, ShardId,
    clock::{Clock, Instant},
    id::CallId,
    store::{Store, StoreConfig, TaskExecutor, migrate, nodes, ownership},
};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    arguments::Plan,
    load::{Load, Turn},
    node::Database,
    report::Line,
};

const KIND: &str = "account";
const NODE: &str = "bench";
const SHARDS: u32 = 512;

/// The state of one entity as the durable workloads store it.
const STATE_BYTES: usize = 202;

/// Sizes of batches the open form chooses among, by trying each for a moment.
const SIZES: &[u32] = &[128, 256, 512, 1024, 2048];
const TRIED_FOR: Duration = Duration::from_millis(700);

/// How often the write-ahead log is written back into the file, as the store does.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Runs `insert_limit`.
pub(super) async fn bounded(plan: &Plan) -> Result<Vec<Line>> {
    if plan.is_postgres() {
        return postgres::bounded(plan).await;
    }
    let database = Database::of(plan)?;
    let mut writer = Writer::open(&database, plan.entities).await?;
    writer.for_a_while(plan.concurrency, plan.warm_up).await?;
    let load = writer.for_a_while(plan.concurrency, plan.measured).await?;
    Ok(vec![
        Line::of("insert_limit", "sqlite", plan, &load).with("batch", plan.concurrency),
    ])
}

/// Runs `insert_limit_open`.
pub(super) async fn open(plan: &Plan) -> Result<Vec<Line>> {
    if plan.is_postgres() {
        return postgres::open(plan).await;
    }
    let database = Database::of(plan)?;
    let mut writer = Writer::open(&database, plan.entities).await?;
    let mut best = (0, SIZES[0]);
    for &size in SIZES {
        best = best.max((writer.for_a_while(size, TRIED_FOR).await?.ops, size));
    }
    writer.for_a_while(best.1, plan.warm_up).await?;
    let load = writer.for_a_while(best.1, plan.measured).await?;
    let line = Line::of("insert_limit_open", "sqlite", plan, &load);
    Ok(vec![
        line.sized(best.1, plan.entities).with("batch", best.1),
    ])
}

/// One entity's state as this program knows it.
#[derive(Clone, Debug)]
struct Entity {
    id: String,
    shard: u32,
    version: i64,
}

struct Writer {
    connection: SqliteConnection,
    checkpoints: SqliteConnection,
    checkpointed: Instant,
    entities: Vec<Entity>,
    incarnation: i64,
    turns: u64,
    texts: BTreeMap<(u8, usize), String>,
}

impl Writer {
    async fn open(database: &Database, entities: u32) -> Result<Self> {
        let incarnation = own_everything(&database.url).await?;
        let options: SqliteConnectOptions = database.url.parse()?;
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "0")
            .statement_cache_capacity(512);
        let entity = |id: u32| {
            let id = id.to_string();
            Entity {
                shard: ShardId::of(KIND, &id, SHARDS).0,
                id,
                version: 0,
            }
        };
        Ok(Self {
            connection: SqliteConnection::connect_with(&options).await?,
            checkpoints: SqliteConnection::connect_with(&options).await?,
            checkpointed: Clock.now(),
            entities: (0..entities).map(entity).collect(),
            incarnation,
            turns: 0,
            texts: BTreeMap::new(),
        })
    }

    /// Writes batches of `size` operations until the time is over.
    async fn for_a_while(&mut self, size: u32, time: Duration) -> Result<Load> {
        let mut load = Load::new();
        let begin = Clock.now();
        while Clock.now() - begin < time {
            let started = Clock.now();
            self.batch(size).await?;
            let latency = Clock.now() - started;
            for _ in 0..size {
                load.succeeded(latency);
            }
            self.checkpoint().await?;
        }
        load.took = Clock.now() - begin;
        Ok(load)
    }

    /// Stores the outcome of `size` calls in one transaction.
    async fn batch(&mut self, size: u32) -> Result<()> {
        let mut calls = Vec::new();
        let mut touched = BTreeMap::new();
        let mut fence = BTreeMap::new();
        for _ in 0..size {
            self.turns += 1;
            let turn = Turn {
                caller: 0,
                number: self.turns,
            };
            let index = turn.pick(self.entities.len());
            let entity = &mut self.entities[index];
            touched
                .entry(entity.id.clone())
                .or_insert((index, entity.version));
            entity.version += 1;
            fence.insert(entity.shard, ());
            calls.push((index, CallId::from_key(&self.turns.to_string())));
        }
        // Rows go in by the order of their keys: neighbours share pages.
        calls.sort_by(|a, b| (&self.entities[a.0].id, a.1).cmp(&(&self.entities[b.0].id, b.1)));
        self.connection.execute("BEGIN IMMEDIATE").await?;
        self.check_fence(fence.len(), fence.keys().copied()).await?;
        self.write_states(touched.into_values().collect()).await?;
        self.write_replies(&calls).await?;
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    async fn check_fence(&mut self, count: usize, shards: impl Iterator<Item = u32>) -> Result<()> {
        let text = self.text(0, count, |rows| {
            let marks = vec!["?"; rows].join(", ");
            format!(
                "SELECT count(*) FROM shards WHERE shard IN ({marks}) AND owner = ? AND incarnation = ?"
            )
        });
        let mut values = SqliteArguments::default();
        for shard in shards {
            add(&mut values, i64::from(shard))?;
        }
        add(&mut values, NODE)?;
        add(&mut values, self.incarnation)?;
        let query = sqlx::query_scalar_with::<_, i64, _>(AssertSqlSafe(text), values);
        let owned = query.fetch_one(&mut self.connection).await?;
        if usize::try_from(owned)? == count {
            Ok(())
        } else {
            Err(Failure::new("fenced", "a shard is not owned"))
        }
    }

    async fn write_states(&mut self, touched: Vec<(usize, i64)>) -> Result<()> {
        let text = self.text(1, touched.len(), |rows| {
            format!(
                "INSERT INTO entities (kind, id, shard, version, base, shape, state, updated_at)
                 VALUES {}
                 ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version,
                   base = excluded.base, shape = excluded.shape, state = excluded.state,
                   updated_at = excluded.updated_at
                 WHERE entities.version = excluded.base",
                vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ")
            )
        });
        let rows = touched.len() as u64;
        let now = Clock.wall_ms();
        let mut values = SqliteArguments::default();
        for (index, base) in touched {
            let entity = &self.entities[index];
            add(&mut values, KIND)?;
            add(&mut values, entity.id.clone())?;
            add(&mut values, i64::from(entity.shard))?;
            add(&mut values, entity.version)?;
            add(&mut values, base)?;
            add(&mut values, 1_i64)?;
            add(&mut values, vec![b'x'; STATE_BYTES])?;
            add(&mut values, now)?;
        }
        self.all_written(text, values, rows).await
    }

    async fn write_replies(&mut self, calls: &[(usize, CallId)]) -> Result<()> {
        let text = self.text(2, calls.len(), |rows| {
            format!(
                "INSERT INTO replies (kind, entity, id, shard, hash, ok, outcome, expires_at)
                 VALUES {} ON CONFLICT (kind, entity, id) DO NOTHING",
                vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ")
            )
        });
        let kept_until = Clock.wall_ms() + 24 * 3_600_000;
        let mut values = SqliteArguments::default();
        for (index, call) in calls {
            let entity = &self.entities[*index];
            add(&mut values, KIND)?;
            add(&mut values, entity.id.clone())?;
            add(&mut values, call.to_bytes().to_vec())?;
            add(&mut values, i64::from(entity.shard))?;
            add(&mut values, (call.0 >> 64) as i64)?;
            add(&mut values, true)?;
            add(&mut values, vec![0xcd, 0x12, 0x34])?;
            add(&mut values, kept_until)?;
        }
        self.all_written(text, values, calls.len() as u64).await
    }

    async fn all_written(
        &mut self,
        text: String,
        values: SqliteArguments,
        rows: u64,
    ) -> Result<()> {
        let done = sqlx::query_with(AssertSqlSafe(text), values);
        let written = done.execute(&mut self.connection).await?.rows_affected();
        if written == rows {
            Ok(())
        } else {
            Err(Failure::new(
                "conflict",
                format!("{written} of {rows} rows were written"),
            ))
        }
    }

    /// Returns the text of a statement for so many rows; made once.
    fn text(&mut self, statement: u8, rows: usize, make: impl FnOnce(usize) -> String) -> String {
        self.texts
            .entry((statement, rows))
            .or_insert_with(|| make(rows))
            .clone()
    }

    async fn checkpoint(&mut self) -> Result<()> {
        if Clock.now() - self.checkpointed > CHECKPOINT_EVERY {
            self.checkpointed = Clock.now();
            self.checkpoints
                .execute("PRAGMA wal_checkpoint(PASSIVE)")
                .await?;
        }
        Ok(())
    }
}

fn add<'q, T>(values: &mut SqliteArguments, value: T) -> Result<()>
where
    T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    values
        .add(value)
        .map_err(|error| Failure::new("bind", error))
}

/// Makes the tables and owns all shards, as a node that is alone does; returns its incarnation.
async fn own_everything(url: &str) -> Result<i64> {
    let store = Store::open(StoreConfig::new(url), Arc::new(TaskExecutor)).await?;
    migrate::run(&store).await?;
    let incarnation = store.write("own everything", |c| {
        Box::pin(async move {
            let (node, ttl) = (NodeId::new(NODE), Duration::from_secs(3600));
            let incarnation = nodes::register(c, &node, "", ttl).await?;
            ownership::ensure(c, SHARDS).await?;
            let all: Vec<ShardId> = (0..SHARDS).map(ShardId).collect();
            ownership::take(c, &all, &node, incarnation, &ownership::Seen::default()).await?;
            Ok(incarnation)
        })
    });
    let incarnation = incarnation.await?;
    store.close().await?;
    Ok(i64::try_from(incarnation.0)?)
}
