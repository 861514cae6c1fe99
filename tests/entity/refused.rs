//! What the database or a decoder refuses: it costs that message, and nothing beside it.

use std::{sync::Arc, time::Duration};

use actor_core::{
    CallError, Client, Ctx, Entity, handlers,
    hosting::Hosting,
    store::{Sql, Value},
};
use actor_tests::{
    Deadline,
    hosting::{MEMORY, client, host},
};
use serde::{Deserialize, Serialize};

use super::kinds::SOON;

const HOUR: Duration = Duration::from_secs(3600);

/// A number whose decoder was not written with care.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
struct Touchy(u8);

impl From<u8> for Touchy {
    fn from(number: u8) -> Self {
        assert_ne!(number, 13, "13 is not liked");
        Self(number)
    }
}

impl From<Touchy> for u8 {
    fn from(touchy: Touchy) -> Self {
        touchy.0
    }
}

/// Sends, and keeps what it is sent.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Clerk {
    kept: Vec<u8>,
}

#[handlers]
impl Clerk {
    /// Sends this many reminders under one key.
    pub async fn remind(&mut self, times: u32, ctx: &mut Ctx<Self>) {
        for _ in 0..times {
            let other = ctx.entity::<Clerk>("other");
            let later = other.keep(Touchy(1)).key("k").after(HOUR).await;
            later.expect("it becomes part of the commit");
        }
    }

    /// Sends to somebody of whom the database does not want to hear.
    pub async fn offend(&mut self, ctx: &mut Ctx<Self>) {
        let forbidden = ctx.entity::<Clerk>("forbidden");
        let cast = forbidden.keep(Touchy(2)).cast().await;
        cast.expect("it becomes part of the commit");
    }

    /// Keeps a number.
    pub fn keep(&mut self, number: Touchy) {
        self.kept.push(number.0);
    }

    /// Returns what it kept.
    pub fn kept(&self) -> Vec<u8> {
        self.kept.clone()
    }

    /// Keeps a number and returns it as it is.
    pub async fn echo(&mut self, number: u8) -> Touchy {
        self.kept.push(number);
        Touchy(number)
    }
}

/// Cannot even begin.
#[derive(Debug, Entity)]
struct Stillborn;

impl Default for Stillborn {
    fn default() -> Self {
        panic!("not today")
    }
}

#[handlers]
impl Stillborn {
    /// Is never reached.
    pub fn cry(&mut self) {}
}

async fn node() -> (Arc<Hosting>, Client) {
    let hosting = host::<(Clerk, Stillborn)>(MEMORY).await;
    let client = client(&hosting);
    (hosting, client)
}

/// Returns the number a statement finds.
async fn number(hosting: &Hosting, text: &'static str) -> i64 {
    let read = hosting.store().read("number", move |c| {
        Box::pin(async move { c.query_one(&Sql::same(text), vec![]).await })
    });
    let row = read.await.expect("the store answers").expect("a row");
    row.int(0).expect("a number")
}

async fn change(hosting: &Hosting, text: &'static str) {
    let changed = hosting.store().write("change", move |c| {
        Box::pin(async move { c.execute(&Sql::same(text), Vec::<Value>::new()).await })
    });
    changed.await.expect("the store answers");
}

/// Waits until a statement finds at least this number.
async fn finds(hosting: &Hosting, text: &'static str, least: i64) {
    let found = async || (number(hosting, text).await >= least).then_some(());
    let waited = Deadline::seconds(20).poll(text, found).await;
    waited.expect("it becomes so");
}

#[tokio::test]
async fn a_keyed_message_that_still_waits_is_sent_again_without_effect() {
    let (hosting, client) = node().await;
    let clerk = client.entity::<Clerk>("a");

    for times in [1, 1, 2] {
        assert_eq!(clerk.remind(times).timeout(SOON).await, Ok(()));
    }

    assert_eq!(number(&hosting, "SELECT COUNT(*) FROM mailbox").await, 1);
}

#[tokio::test]
async fn a_stored_message_whose_commit_is_refused_is_counted_and_pauses() {
    const ATTEMPTS: &str = "SELECT COALESCE(MAX(attempts), 0) FROM mailbox";
    let (hosting, client) = node().await;
    change(
        &hosting,
        "CREATE TRIGGER refuse BEFORE INSERT ON mailbox WHEN NEW.entity = 'forbidden'
         BEGIN SELECT RAISE(ABORT, 'not him'); END",
    )
    .await;
    let clerk = client.entity::<Clerk>("a");

    clerk.offend().cast().await.expect("stored");
    finds(&hosting, ATTEMPTS, 2).await;
    change(&hosting, "DROP TRIGGER refuse").await;

    clerk.keep(Touchy(3)).timeout(SOON).await.expect("answers");
    assert_eq!(clerk.kept().timeout(SOON).await, Ok(vec![3]));
    let forbidden = client.entity::<Clerk>("forbidden");
    assert_eq!(forbidden.kept().timeout(SOON).await, Ok(vec![2]));
}

#[tokio::test]
async fn a_decoder_that_panics_costs_its_message_only() {
    let (hosting, client) = node().await;
    let clerk = client.entity::<Clerk>("a");
    let (soon, later) = (Duration::from_millis(20), Duration::from_millis(60));

    clerk.keep(Touchy(13)).cast().await.expect("stored");
    clerk.keep(Touchy(13)).after(soon).await.expect("stored");
    clerk.keep(Touchy(4)).after(later).await.expect("stored");

    finds(&hosting, "SELECT COUNT(*) FROM dead_letters", 2).await;
    let kept = async || (clerk.kept().await == Ok(vec![4])).then_some(());
    let rang = Deadline::seconds(20).poll("the timer", kept).await;
    rang.expect("timers still fire");
}

// The outcome of a call is read again for whoever asked under the same key meanwhile: in the task
// that commits for everybody.
#[tokio::test]
async fn an_outcome_whose_decoder_panics_costs_its_caller_only() {
    let (_hosting, client) = node().await;
    let clerk = client.entity::<Clerk>("a");
    let echo = || clerk.echo(13).key("k").timeout(SOON).into_future();

    let (first, second) = tokio::join!(echo(), echo());
    let kept = clerk.kept().timeout(SOON).await;

    assert_eq!(first.map(|touchy| touchy.0), Ok(13));
    assert!(matches!(second, Err(CallError::Crashed(_))), "{second:?}");
    assert_eq!(kept, Ok(vec![13]));
}

#[tokio::test]
async fn an_entity_that_cannot_begin_says_so_and_its_stored_messages_are_counted() {
    const ATTEMPTS: &str = "SELECT COALESCE(MAX(attempts), 0) FROM mailbox";
    let (hosting, client) = node().await;
    let stillborn = client.entity::<Stillborn>("a");

    let called = stillborn.cry().timeout(SOON).await;
    stillborn.cry().durable().cast().await.expect("stored");
    finds(&hosting, ATTEMPTS, 1).await;

    let why = called.expect_err("it cannot answer");
    assert!(
        matches!(&why, CallError::Crashed(why) if why.contains("not today")),
        "{why:?}"
    );
}

#[tokio::test]
async fn an_id_that_no_database_stores_is_refused_at_once() {
    let (_hosting, client) = node().await;

    let answer = client.entity::<Clerk>("a\0b").kept().timeout(SOON).await;

    assert!(matches!(answer, Err(CallError::Decode(why)) if why.contains("no NUL")));
}

#[tokio::test]
async fn every_topic_is_trimmed_however_many_there_are() {
    let (hosting, _client) = node().await;
    for text in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO streams (topic, epoch, last_offset)
         SELECT printf('t-%04d', i), 1, 1001 FROM n",
        "INSERT INTO events
         SELECT topic, 1, 'said', NULL, x'00', 0 FROM streams",
    ] {
        change(&hosting, text).await;
    }

    hosting.sweep().await.expect("sweeps");

    assert_eq!(number(&hosting, "SELECT COUNT(*) FROM events").await, 0);
}
