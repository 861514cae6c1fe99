//! What operators see of all runs: which there are, how they are, and what each one did.
//!
//! Everything is read from the store, so any node can answer for all of them.

use std::time::Duration;

use actor_core::{
    Client, Failure, Refusal,
    codec::Codec,
    store::{Store, StoreError},
};
use serde::Serialize;

use crate::{
    journal::{Entry, Outcome, decode_failure},
    saga::State,
    store::{
        journal::{self, JournalRow},
        runs::{self, Listed},
    },
};

/// How long a run is kept after its end; then its id is free again.
pub const FINISHED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Runs deleted by one transaction, so that no commit waits long.
const PRUNE_RUNS: u32 = 200;

/// The most lines a page has.
pub const PAGE_MAX: u32 = 1000;

/// How many runs of a kind are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Count {
    /// The kind.
    pub kind: String,
    /// The state.
    pub state: String,
    /// How many.
    pub runs: u64,
}

/// A page of runs to look for.
#[derive(Clone, Debug)]
pub struct Query {
    /// The kind.
    pub kind: String,
    /// Only runs in this state.
    pub state: Option<State>,
    /// Only runs whose id comes after this one; empty for the first page.
    pub after: String,
    /// The most runs to return; cut to [`PAGE_MAX`].
    pub limit: u32,
}

impl Query {
    /// Returns the first page of a kind.
    pub fn of(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            state: None,
            after: String::new(),
            limit: 100,
        }
    }
}

/// A run, as a line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Line {
    /// The kind.
    pub kind: String,
    /// The run's id.
    pub id: String,
    /// The state. A run that woke up shows as suspended until it writes its next entry.
    pub state: String,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// The last thing it did, such as ``step `charge card` ``.
    pub last: Option<String>,
    /// The version of the recipe it began with.
    pub version: u32,
    /// When it was started, in milliseconds since 1970.
    pub created_at: i64,
    /// When its state last changed.
    pub updated_at: i64,
    /// When it is woken at the latest.
    pub wake_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// One entry of a run's journal, as a point of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// Its place in the journal, from 1.
    pub seq: u32,
    /// When it was written, in milliseconds since 1970.
    pub at: i64,
    /// What it is: `step`, `attempt`, `timer`, `value`, `cancel`, `end`, `undone`, `paused`,
    /// `resumed`.
    pub what: &'static str,
    /// The name the body gave it.
    pub name: String,
    /// How many attempts it took, for a step.
    pub attempts: Option<u32>,
    /// How long the run slept, or waited before the next attempt.
    pub wait_ms: Option<u64>,
    /// The value of a step, as far as it can be shown as JSON.
    pub value: Option<serde_json::Value>,
    /// The failure of a step or attempt.
    pub error: Option<Failure>,
}

/// Reads what there is of all runs. Made by [`SagaClient::sagas`](crate::SagaClient::sagas).
#[derive(Clone, Debug)]
pub struct Overview {
    client: Client,
}

impl Overview {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns how many runs of each kind are in each state; of more than a hundred thousand, that
    /// many.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn counts(&self) -> Result<Vec<Count>, Refusal> {
        let read = self.store().read("count runs", |connection| {
            Box::pin(async move { runs::counts(connection).await })
        });
        let counts = read.await.map_err(|error| error.refusal())?;
        let count = |(kind, state, runs)| Count { kind, state, runs };
        Ok(counts.into_iter().map(count).collect())
    }

    /// Returns runs in the order of their ids.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn runs(&self, query: Query) -> Result<Vec<Line>, Refusal> {
        let read = self.store().read("list runs", move |connection| {
            Box::pin(async move {
                let state = query.state.map(State::as_str);
                let limit = query.limit.min(PAGE_MAX);
                runs::list(connection, &query.kind, state, &query.after, limit).await
            })
        });
        let listed = read.await.map_err(|error| error.refusal())?;
        Ok(listed.into_iter().map(line).collect())
    }

    /// Returns a run's journal after the entry `after`, at most [`PAGE_MAX`] entries.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer.
    pub async fn journal(&self, kind: &str, id: &str, after: u32) -> Result<Vec<Point>, Refusal> {
        let (kind, id) = (kind.to_owned(), id.to_owned());
        let read = self.store().read("list journal", move |connection| {
            Box::pin(async move { journal::load(connection, &kind, &id, after, PAGE_MAX).await })
        });
        let rows = read.await.map_err(|error| error.refusal())?;
        Ok(rows.iter().map(point).collect())
    }

    fn store(&self) -> &Store {
        self.client.hosting().store()
    }
}

fn line(listed: Listed) -> Line {
    let last = listed.last_entry.as_deref().map(|bytes| {
        Entry::decode(bytes).map_or_else(
            |error| format!("unreadable: {error}"),
            |entry| match (entry.what(), entry.name()) {
                (what, "") => what.to_owned(),
                (what, name) => format!("{what} `{name}`"),
            },
        )
    });
    Line {
        kind: listed.kind,
        id: listed.id,
        state: listed.state,
        reason: listed.reason,
        last,
        version: listed.version,
        created_at: listed.created_at,
        updated_at: listed.updated_at,
        wake_at: listed.wake_at,
        finished_at: listed.finished_at,
    }
}

fn point(row: &JournalRow) -> Point {
    let mut point = Point {
        seq: row.seq,
        at: row.at,
        what: "unreadable",
        name: String::new(),
        attempts: None,
        wait_ms: None,
        value: None,
        error: None,
    };
    let entry = match &row.entry {
        Ok(entry) => Entry::decode(entry).map_err(|error| error.to_string()),
        Err(why) => Err(why.clone()),
    };
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            point.error = Some(Failure::new("unreadable", error));
            return point;
        }
    };
    (point.what, point.name) = (entry.what(), entry.name().to_owned());
    let shown = |bytes: &[u8]| Codec::Msgpack.decode(bytes).ok();
    match &entry {
        Entry::Attempt {
            attempt,
            error,
            delay_ms,
            ..
        } => {
            point.attempts = Some(*attempt);
            point.wait_ms = Some(*delay_ms);
            point.error = Some(decode_failure(error));
        }
        Entry::Step {
            attempts, outcome, ..
        } => {
            point.attempts = Some(*attempts);
            match outcome {
                Outcome::Value(bytes) => point.value = shown(bytes),
                Outcome::Failure(bytes) => point.error = Some(decode_failure(bytes)),
            }
        }
        Entry::Timer { duration_ms, .. } => point.wait_ms = Some(*duration_ms),
        Entry::Value { value, .. } => point.value = shown(value),
        Entry::Undone { attempts, .. } => point.attempts = Some(*attempts),
        Entry::Cancel | Entry::End(_) | Entry::Paused | Entry::Resumed => {}
    }
    point
}

/// Deletes runs that ended long ago and sets the gauges of all runs.
pub(crate) async fn sweep(store: &Store) -> Result<(), StoreError> {
    loop {
        let pruned = store.write("prune runs", |connection| {
            Box::pin(async move { runs::prune(connection, FINISHED_KEPT, PRUNE_RUNS).await })
        });
        if pruned.await? < u64::from(PRUNE_RUNS) {
            break;
        }
    }
    let counted = store.read("count open runs", |connection| {
        Box::pin(async move { runs::open(connection).await })
    });
    let (mut open, mut stuck) = (0, 0);
    for (state, runs) in counted.await? {
        if State::parse(&state) == Some(State::Stuck) {
            stuck += runs;
        }
        open += runs;
    }
    metrics::gauge!("actor_backlog", "what" => "saga").set(open as f64);
    metrics::gauge!("actor_stuck", "what" => "saga").set(stuck as f64);
    Ok(())
}
