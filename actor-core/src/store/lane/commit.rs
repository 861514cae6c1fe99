//! One transaction of a lane: the fence, the topics' counters, then the rows, table by table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::{
    LaneConfig, fence,
    item::{Announced, Write},
    queue::Body,
    rows::{Group, Groups, Origin, RowWrite, Written},
};
use crate::{
    id::{Epoch, ShardId},
    shards::Shards,
    store::{
        Connection, StoreError, Value,
        connection::Bound,
        statement::{self, Missing},
        topics,
    },
};

/// The number of a topic's history stays below this, so that JavaScript can hold it.
const TOPIC_EPOCH_BITS: u32 = 53;

/// What goes into the transaction.
#[derive(Debug)]
pub(super) struct Job {
    bodies: Arc<[Body]>,
    items: Vec<usize>,
    shards: Arc<Shards>,
    /// Whether every statement whose rows may conflict must tell which it wrote.
    careful: bool,
    /// The number of the history of topics that begin in this batch.
    topic_epoch: i64,
}

impl Job {
    pub(super) fn new(
        config: &LaneConfig,
        bodies: &Arc<[Body]>,
        items: &[usize],
        careful: bool,
    ) -> Self {
        let events = items
            .iter()
            .any(|item| bodies[*item].writes.iter().any(Write::is_event));
        // Drawn only when needed: a draw is part of a simulation's history.
        let draw = || (config.rng.bits() >> (u64::BITS - TOPIC_EPOCH_BITS)).cast_signed();
        Self {
            bodies: Arc::clone(bodies),
            items: items.to_vec(),
            shards: Arc::clone(&config.shards),
            careful,
            topic_epoch: if events { draw().max(1) } else { 0 },
        }
    }
}

/// What a committed transaction did.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    /// The epochs that are over; their items were left out.
    pub(super) fenced: BTreeSet<(ShardId, Epoch)>,
    /// The numbers the database gave, by item: index of the write, number.
    pub(super) numbers: BTreeMap<usize, Vec<(usize, i64)>>,
    /// The events, in item order.
    pub(super) events: Vec<Announced>,
}

/// Why a transaction was rolled back.
#[derive(Debug)]
pub(super) enum Abort {
    /// Some rows were not written; which ones, a careful run tells.
    RowsMissing,
    /// These items conflict with what is stored: item, write.
    Conflicts(Vec<(usize, usize)>),
    /// A statement failed, or the commit did.
    Store(StoreError),
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Does all of the job inside an open transaction.
pub(super) async fn run(c: &mut Connection, mut job: Job) -> Result<Receipt, Abort> {
    let mut receipt = Receipt::default();
    let (node, incarnation) = (job.shards.node(), job.shards.incarnation());
    let epoch = |item: &usize| (job.bodies[*item].shard, job.bodies[*item].epoch);
    let epochs = job.items.iter().map(epoch).collect();
    receipt.fenced = fence::fenced(c, &epochs, node, incarnation).await?;
    let Job { bodies, items, .. } = &mut job;
    items.retain(|item| {
        let body = &bodies[*item];
        !receipt.fenced.contains(&(body.shard, body.epoch))
    });
    let appended = append(c, &job, &mut receipt).await?;
    let mut groups = Groups::default();
    for &item in &job.items {
        for (write, row) in job.bodies[item].writes.iter().enumerate() {
            if let Write::Row { statement, values } = row {
                groups.add(Origin { item, write }, statement, values)?;
            }
        }
    }
    for (origin, values) in &appended {
        groups.add(*origin, &topics::APPEND, values)?;
    }
    for group in groups.in_order() {
        write(c, &group, job.careful, &mut receipt).await?;
    }
    Ok(receipt)
}

/// Numbers the batch's events and returns their rows.
///
/// The counters are advanced late in a transaction of a few milliseconds; whoever publishes to the
/// same topic waits only for that (architecture D18).
async fn append(
    c: &mut Connection,
    job: &Job,
    receipt: &mut Receipt,
) -> Result<Vec<(Origin, Vec<Value>)>, StoreError> {
    let mut counts = BTreeMap::<_, i64>::new();
    for (_, event) in events(job) {
        *counts.entry(Arc::clone(event.topic)).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let mut counters = advance(c, &counts, job.topic_epoch).await?;
    let mut rows = Vec::new();
    for (origin, event) in events(job) {
        let Some((epoch, offset)) = counters.get_mut(event.topic) else {
            continue;
        };
        *offset += 1;
        let (topic, name, data) = (event.topic, event.name, event.data);
        let values = vec![
            topic.into(),
            (*offset).into(),
            name.into(),
            event.key.clone().into(),
            Arc::clone(data).into(),
            Value::NOW,
        ];
        rows.push((origin, values));
        let numbers = receipt.numbers.entry(origin.item).or_default();
        numbers.push((origin.write, *offset));
        receipt.events.push(Announced {
            topic: Arc::clone(topic),
            epoch: *epoch,
            offset: *offset,
            name: Arc::clone(name),
            key: event.key.clone(),
            data: Arc::clone(data),
        });
    }
    Ok(rows)
}

/// Moves the counters on; returns each topic's history and its offset *before* this batch.
async fn advance(
    c: &mut Connection,
    counts: &BTreeMap<Arc<str>, i64>,
    topic_epoch: i64,
) -> Result<BTreeMap<Arc<str>, (i64, i64)>, StoreError> {
    let rows: Vec<[Value; 3]> = counts
        .iter()
        .map(|(topic, count)| [topic.into(), topic_epoch.into(), (*count).into()])
        .collect();
    let mut counters = BTreeMap::new();
    let dialect = c.dialect();
    for part in statement::parts(dialect, &rows) {
        let value = |row: usize, column: usize| &part[row][column];
        let bound = c.bind_rows(&topics::ADVANCE, part.len(), value)?;
        let text = topics::ADVANCE.text_returning(dialect, part.len());
        let text = AssertSqlSafe(Arc::clone(text));
        for row in c.fetch(text.into_sql_str(), bound).await? {
            let topic: Arc<str> = row.text(0)?.into();
            let count = counts.get(&topic).copied().unwrap_or_default();
            counters.insert(topic, (row.int(1)?, row.int(2)? - count));
        }
    }
    Ok(counters)
}

/// An event of the batch.
struct Event<'b> {
    topic: &'b Arc<str>,
    name: &'b Arc<str>,
    key: &'b Option<Arc<str>>,
    data: &'b Arc<[u8]>,
}

/// Returns the batch's events in item order.
fn events(job: &Job) -> impl Iterator<Item = (Origin, Event<'_>)> {
    job.items.iter().flat_map(|&item| {
        let writes = job.bodies[item].writes.iter().enumerate();
        writes.filter_map(move |(write, event)| match event {
            Write::Event {
                topic,
                name,
                key,
                data,
            } => {
                let event = Event {
                    topic,
                    name,
                    key,
                    data,
                };
                Some((Origin { item, write }, event))
            }
            Write::Row { .. } => None,
        })
    })
}

/// Writes all rows of one statement.
async fn write(
    c: &mut Connection,
    group: &Group<'_>,
    careful: bool,
    receipt: &mut Receipt,
) -> Result<(), Abort> {
    let may_conflict = group.statement.missing_means() == Missing::Conflict;
    let returning = group.statement.is_assigned() || (careful && may_conflict);
    let mut conflicts = Vec::new();
    let dialect = c.dialect();
    for rows in statement::parts(dialect, &group.rows) {
        if returning {
            conflicts.extend(write_returning(c, group, rows, receipt).await?);
        } else {
            let bound = bind(c, group, rows)?;
            let text = AssertSqlSafe(Arc::clone(group.statement.text(dialect, rows.len())));
            let changed = c.change(text.into_sql_str(), bound).await?;
            if may_conflict && !all_written(changed, rows.len()) {
                return Err(Abort::RowsMissing);
            }
        }
    }
    if may_conflict && !conflicts.is_empty() {
        return Err(Abort::Conflicts(conflicts));
    }
    Ok(())
}

/// Binds rows of a group.
fn bind(c: &Connection, group: &Group<'_>, rows: &[RowWrite<'_>]) -> Result<Bound, StoreError> {
    let value = |row: usize, column: usize| rows[row].value(column);
    c.bind_rows(group.statement, rows.len(), value)
}

/// Says whether a statement wrote all its rows: a missing one is a conflict.
fn all_written(changed: u64, rows: usize) -> bool {
    usize::try_from(changed).is_ok_and(|changed| changed == rows)
}

/// Writes rows, records the numbers they got, and returns those that were not written.
async fn write_returning(
    c: &mut Connection,
    group: &Group<'_>,
    rows: &[RowWrite<'_>],
    receipt: &mut Receipt,
) -> Result<Vec<(usize, usize)>, StoreError> {
    let statement = group.statement;
    let bound = bind(c, group, rows)?;
    let text = statement.text_returning(c.dialect(), rows.len());
    let text = AssertSqlSafe(Arc::clone(text));
    let mut written = Written::default();
    for row in c.fetch(text.into_sql_str(), bound).await? {
        written.add(statement, &row)?;
    }
    let mut missing = Vec::new();
    for row in rows {
        let Origin { item, write } = row.origin;
        match written.take(statement, row) {
            None => missing.push((item, write)),
            Some(number) if statement.is_assigned() => {
                receipt
                    .numbers
                    .entry(item)
                    .or_default()
                    .push((write, number));
            }
            Some(_) => {}
        }
    }
    Ok(missing)
}
