//! The limit on PostgreSQL: as many connections as are fastest, each with a part of the shards, so
//! that none waits for another's rows.

use std::{collections::BTreeMap, time::Duration};

use actor_core::{Failure, Result, ShardId, clock::Clock, id::CallId};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use super::{Entity, KIND, NODE, SHARDS, SIZES, STATE_BYTES, TRIED_FOR, own_everything};
use crate::{
    arguments::Plan,
    load::{Load, Turn},
    node::Database,
    report::Line,
};

/// How many connections the limit chooses among.
const CONNECTIONS: &[u32] = &[1, 2, 4, 8];

const FENCE: &str = "SELECT count(*) FROM (
  SELECT 1 FROM shards WHERE shard = ANY($1) AND owner = $2 AND incarnation = $3
  ORDER BY shard FOR SHARE) AS held";

const STATES: &str =
    "INSERT INTO entities (kind, id, shard, version, base, shape, state, updated_at)
     SELECT $1, id, shard, version, base, 1, $2, actor_now()
     FROM UNNEST($3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
       AS rows (id, shard, version, base)
     ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, base = excluded.base,
       shape = excluded.shape, state = excluded.state, updated_at = excluded.updated_at
     WHERE entities.version = excluded.base";

const REPLIES: &str = "INSERT INTO replies (kind, entity, id, shard, hash, ok, outcome, expires_at)
     SELECT $1, entity, id, shard, hash, 1, $2, actor_now() + 86400000
     FROM UNNEST($3::text[], $4::bytea[], $5::bigint[], $6::bigint[])
       AS rows (entity, id, shard, hash)
     ON CONFLICT (id, kind, entity) DO NOTHING";

/// Runs `insert_limit`: at most C operations under way over all connections.
pub(super) async fn bounded(plan: &Plan) -> Result<Vec<Line>> {
    let mut writers = Writers::open(plan).await?;
    let mut best = (0, 1);
    for &connections in CONNECTIONS
        .iter()
        .filter(|count| **count <= plan.concurrency)
    {
        let size = plan.concurrency / connections;
        let tried = writers.run(connections, size, TRIED_FOR).await?;
        best = best.max((tried.ops, connections));
    }
    let (connections, size) = (best.1, plan.concurrency / best.1);
    writers.run(connections, size, plan.warm_up).await?;
    let load = writers.run(connections, size, plan.measured).await?;
    let line = Line::of("insert_limit", plan.backend(), plan, &load);
    Ok(vec![
        line.with("batch", size).with("connections", connections),
    ])
}

/// Runs `insert_limit_open`: batches of any size.
pub(super) async fn open(plan: &Plan) -> Result<Vec<Line>> {
    let mut writers = Writers::open(plan).await?;
    let mut best = (0, 1, SIZES[0]);
    for &connections in CONNECTIONS {
        for &size in SIZES {
            let tried = writers.run(connections, size, TRIED_FOR).await?;
            best = best.max((tried.ops, connections, size));
        }
    }
    let (_, connections, size) = best;
    writers.run(connections, size, plan.warm_up).await?;
    let load = writers.run(connections, size, plan.measured).await?;
    let line = Line::of("insert_limit_open", plan.backend(), plan, &load);
    let line = line.sized(connections * size, plan.entities);
    Ok(vec![
        line.with("batch", size).with("connections", connections),
    ])
}

/// What all connections share, and the entities as this program knows them.
struct Writers {
    options: PgConnectOptions,
    incarnation: i64,
    entities: Vec<Entity>,
    runs: u64,
}

impl Writers {
    async fn open(plan: &Plan) -> Result<Self> {
        let database = Database::of(plan)?;
        let incarnation = own_everything(&database.url).await?;
        let (place, parameters) = database.url.split_once('?').unwrap_or((&database.url, ""));
        if parameters.contains("pooler=") {
            let text = "the bare loop prepares its statements: measure it without a pooler";
            return Err(Failure::fatal("pooler", text));
        }
        let schema = parameters
            .split('&')
            .find_map(|parameter| parameter.strip_prefix("schema="));
        let mut options: PgConnectOptions = place.parse()?;
        if let Some(schema) = schema {
            options = options.options([("search_path", schema)]);
        }
        let entity = |id: u32| {
            let id = id.to_string();
            Entity {
                shard: ShardId::of(KIND, &id, SHARDS).0,
                id,
                version: 0,
            }
        };
        Ok(Self {
            options,
            incarnation,
            entities: (0..plan.entities).map(entity).collect(),
            runs: 0,
        })
    }

    /// Writes batches of `size` on each of `connections` connections until the time is over.
    async fn run(&mut self, connections: u32, size: u32, time: Duration) -> Result<Load> {
        self.runs += 1;
        let mut tasks = tokio::task::JoinSet::new();
        let mut parts: Vec<Vec<Entity>> = vec![Vec::new(); connections as usize];
        for entity in std::mem::take(&mut self.entities) {
            parts[(entity.shard % connections) as usize].push(entity);
        }
        for (number, entities) in (0_u32..).zip(parts) {
            if entities.is_empty() {
                continue;
            }
            let mut writer = Writer {
                connection: PgConnection::connect_with(&self.options).await?,
                entities,
                incarnation: self.incarnation,
                name: format!("{}-{number}", self.runs),
                turns: 0,
            };
            tasks.spawn(async move {
                let load = writer.for_a_while(size, time).await?;
                writer.connection.close().await?;
                Ok::<_, Failure>((load, writer.entities))
            });
        }
        let mut sum = Load::new();
        while let Some(ended) = tasks.join_next().await {
            let (load, entities) = ended??;
            self.entities.extend(entities);
            let took = sum.took.max(load.took);
            sum.add(load);
            sum.took = took;
        }
        Ok(sum)
    }
}

/// One connection with its part of the entities.
struct Writer {
    connection: PgConnection,
    entities: Vec<Entity>,
    incarnation: i64,
    /// Makes the ids of its calls its own.
    name: String,
    turns: u64,
}

impl Writer {
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
        }
        load.took = Clock.now() - begin;
        Ok(load)
    }

    /// Stores the outcome of `size` calls in one transaction.
    async fn batch(&mut self, size: u32) -> Result<()> {
        let mut calls = Vec::new();
        let mut touched = BTreeMap::new();
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
            calls.push((
                CallId::from_key(&format!("{}-{}", self.name, self.turns)),
                index,
            ));
        }
        calls.sort();
        self.connection.execute("BEGIN").await?;
        self.check_fence(&calls).await?;
        self.write_states(touched.into_values().collect()).await?;
        self.write_replies(&calls).await?;
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    async fn check_fence(&mut self, calls: &[(CallId, usize)]) -> Result<()> {
        let shard = |(_, index): &(CallId, usize)| i64::from(self.entities[*index].shard);
        let mut shards: Vec<_> = calls.iter().map(shard).collect();
        shards.sort_unstable();
        shards.dedup();
        let owned = sqlx::query_scalar::<_, i64>(FENCE)
            .bind(&shards)
            .bind(NODE)
            .bind(self.incarnation)
            .fetch_one(&mut self.connection)
            .await?;
        match usize::try_from(owned)? == shards.len() {
            true => Ok(()),
            false => Err(Failure::new("fenced", "a shard is not owned")),
        }
    }

    async fn write_states(&mut self, touched: Vec<(usize, i64)>) -> Result<()> {
        let entities = || touched.iter().map(|(index, _)| &self.entities[*index]);
        let ids: Vec<_> = entities().map(|entity| entity.id.clone()).collect();
        let shards: Vec<_> = entities().map(|entity| i64::from(entity.shard)).collect();
        let versions: Vec<_> = entities().map(|entity| entity.version).collect();
        let bases: Vec<_> = touched.iter().map(|(_, base)| *base).collect();
        let state = [b'x'; STATE_BYTES];
        let query = sqlx::query(STATES)
            .bind(KIND)
            .bind(state.as_slice())
            .bind(ids)
            .bind(shards)
            .bind(versions)
            .bind(bases);
        let written = query.execute(&mut self.connection).await?;
        all_written(written.rows_affected(), touched.len())
    }

    async fn write_replies(&mut self, calls: &[(CallId, usize)]) -> Result<()> {
        let entities = || calls.iter().map(|(_, index)| &self.entities[*index]);
        let ids: Vec<_> = entities().map(|entity| entity.id.clone()).collect();
        let shards: Vec<_> = entities().map(|entity| i64::from(entity.shard)).collect();
        let calls_made: Vec<_> = calls
            .iter()
            .map(|(call, _)| call.to_bytes().to_vec())
            .collect();
        let hashes: Vec<_> = calls
            .iter()
            .map(|(call, _)| (call.0 >> 64) as i64)
            .collect();
        let query = sqlx::query(REPLIES)
            .bind(KIND)
            .bind([0xcd_u8, 0x12, 0x34].as_slice())
            .bind(ids)
            .bind(calls_made)
            .bind(shards)
            .bind(hashes);
        let written = query.execute(&mut self.connection).await?;
        all_written(written.rows_affected(), calls.len())
    }
}

fn all_written(written: u64, rows: usize) -> Result<()> {
    match usize::try_from(written)? == rows {
        true => Ok(()),
        false => {
            let text = format!("{written} of {rows} rows were written");
            Err(Failure::new("conflict", text))
        }
    }
}
