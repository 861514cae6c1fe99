//! Stored messages as rows: taken in once, in pages, and with their arguments untouched.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use actor_core::{
    Client, Ctx, Entity, handlers,
    hosting::Hosting,
    id::EntityId,
    store::{Sql, Store, Value},
};
use actor_tests::{
    Deadline,
    fault::FaultExecutor,
    hosting::{client, host_with, url},
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::kinds::{Account, Gate, SOON};

const HOUR: Duration = Duration::from_secs(3600);

/// More rows than the poll reads at once.
const MANY: usize = 1100;

/// One life of a node that has room for two entities.
async fn life(folder: &Path, gate: &Gate) -> (Arc<Hosting>, Client, Arc<FaultExecutor>) {
    let executor = Arc::new(FaultExecutor::default());
    let (gate, url) = (gate.clone(), url(folder));
    let hosting = host_with::<(Account, Bag, Till)>(&url, executor.clone(), |config| {
        config.resources.insert(gate);
        config.residents_max = 2;
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client, executor)
}

async fn end(hosting: Arc<Hosting>) {
    hosting.stop().await;
    hosting.store().close().await.expect("closes");
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    let counted = store.read("count", move |c| {
        Box::pin(async move {
            let row = c.query_one(&Sql::same(sql), Vec::<Value>::new()).await?;
            row.expect("a count has a row").int(0)
        })
    });
    counted.await.expect("the store answers")
}

// MSG-1, MSG-15: a row in memory is not taken in again, and one that is done is gone
#[tokio::test]
async fn a_row_is_taken_in_once_however_often_rows_are_read() {
    let (folder, gate) = (TempDir::new().expect("a folder"), Gate::default());
    let (hosting, client, _) = life(folder.path(), &gate).await;
    let account = client.entity::<Account>("a");
    account.wait().cast().await.expect("stored");
    gate.entered().await;
    account.deposit(10).cast().await.expect("stored");

    for _ in 0..3 {
        hosting.poll(0).await.expect("reads");
    }
    gate.open(5);
    let balance = account.balance().timeout(SOON).await;
    hosting.poll(0).await.expect("reads");
    account.deposit(100).cast().await.expect("stored");
    let after = account.balance().timeout(SOON).await;

    assert_eq!((balance, after), (Ok(11), Ok(111)));
    assert_eq!(
        count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await,
        0
    );
}

/// Adds up; with the mailbox of default size.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Till {
    sum: u64,
}

#[handlers]
impl Till {
    pub fn add(&mut self) {
        self.sum += 1;
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    pub async fn wait(&self, ctx: &mut Ctx<Self>) {
        ctx.resource::<Gate>().clone().pass().await;
    }
}

// A look that begins anew must get beyond what is in memory, or a stream of news would keep an
// entity reading for ever.
#[tokio::test]
async fn news_without_end_do_not_keep_an_entity_from_its_backlog() {
    let (folder, gate) = (TempDir::new().expect("a folder"), Gate::default());
    let (hosting, client, _) = life(folder.path(), &gate).await;
    let till = client.entity::<Till>("a");
    till.wait().cast().await.expect("stored");
    gate.entered().await;
    // More than half of its mailbox, so that some stay behind.
    let casts = (0..3000).map(|_| {
        let add = till.add();
        async move { add.cast().await }
    });
    for stored in futures_util::future::join_all(casts).await {
        stored.expect("stored");
    }

    let ringing = tokio::spawn({
        let hosting = hosting.clone();
        async move {
            loop {
                hosting.ring("till", &EntityId::from("a"), Duration::ZERO);
                tokio::task::yield_now().await;
            }
        }
    });
    gate.open(5);
    let by = Deadline::after(SOON);
    let handled = by.poll("the backlog's end", async || {
        let left = count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await;
        (left == 0).then_some(())
    });
    handled.await.expect("it is handled");
    ringing.abort();

    assert_eq!(till.sum().timeout(SOON).await, Ok(3000));
}

// RES-5, RES-6: rows that must wait do not hide those behind them, and are read a page at a time
#[tokio::test]
async fn rows_behind_more_waiting_ones_than_a_read_takes_are_found() {
    let (folder, gate) = (TempDir::new().expect("a folder"), Gate::default());
    let (hosting, client, _) = life(folder.path(), &gate).await;
    let held = client.entity::<Account>("held");
    held.wait().cast().await.expect("stored");
    gate.entered().await;
    let notes = (0..MANY).map(|number| {
        let note = held.note(number.to_string());
        async move { note.cast().await }
    });
    for stored in futures_util::future::join_all(notes).await {
        stored.expect("stored");
    }
    let last = client
        .entity::<Account>("last")
        .deposit(1)
        .after(HOUR)
        .await;
    last.expect("stored");
    let due = hosting.store().write("due", |c| {
        Box::pin(async move {
            let sql = Sql::same("UPDATE mailbox SET due_at = NULL");
            c.execute(&sql, Vec::<Value>::new()).await
        })
    });
    due.await.expect("the store answers");
    end(hosting).await;

    let gate = Gate::default();
    let (hosting, _, executor) = life(folder.path(), &gate).await;
    gate.entered().await;
    let found = Deadline::after(SOON).poll("the last row", async || {
        let left = "SELECT COUNT(*) FROM mailbox WHERE entity = 'last'";
        (count(hosting.store(), left).await == 0).then_some(())
    });
    let found = found.await;

    found.expect("the row behind all others is found");
    let held = count(hosting.store(), "SELECT COUNT(*) FROM mailbox").await;
    assert_eq!(usize::try_from(held), Ok(MANY + 1), "the others still wait");
    let reads = executor.begun("ready messages");
    assert!(reads < 50, "{reads} reads for {MANY} rows");
}

/// Every shape of value that codecs like to change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    large: u64,
    small: i64,
    exact: f64,
    text: String,
    pairs: BTreeMap<u32, Option<Vec<Payload>>>,
    nothing: (),
}

/// Keeps what it is sent.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Bag {
    kept: Vec<Payload>,
}

#[handlers]
impl Bag {
    pub fn keep(&mut self, payload: Payload) {
        self.kept.push(payload);
    }

    pub fn kept(&self) -> Vec<Payload> {
        self.kept.clone()
    }
}

// MSG-31
#[tokio::test]
async fn arguments_come_out_of_the_store_as_they_went_in() {
    let inner = Payload {
        text: "null\0, \"quotes\", \u{10FFFF} and ' ; --".into(),
        exact: f64::MIN_POSITIVE,
        ..Payload::default()
    };
    let payload = Payload {
        bytes: (0..=255).collect(),
        large: u64::MAX,
        small: i64::MIN,
        exact: 0.1 + 0.2,
        text: String::new(),
        pairs: BTreeMap::from([(0, None), (u32::MAX, Some(vec![inner]))]),
        nothing: (),
    };
    let (folder, gate) = (TempDir::new().expect("a folder"), Gate::default());
    let (hosting, client, _) = life(folder.path(), &gate).await;
    let bag = client.entity::<Bag>("a");

    bag.keep(payload.clone()).cast().await.expect("stored");
    bag.keep(payload.clone()).key("k").await.expect("stored");
    bag.keep(payload.clone()).after(HOUR).await.expect("stored");
    let due = hosting.store().write("due", |c| {
        Box::pin(async move {
            let sql = Sql::same("UPDATE mailbox SET due_at = NULL");
            c.execute(&sql, Vec::<Value>::new()).await
        })
    });
    assert_eq!(due.await.expect("the store answers"), 1);
    end(hosting).await;
    let (_hosting, client, _) = life(folder.path(), &gate).await;

    let kept = client.entity::<Bag>("a").kept().timeout(SOON).await;
    assert_eq!(kept, Ok(vec![payload.clone(), payload.clone(), payload]));
}
