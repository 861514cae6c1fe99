//! Stored messages that nobody can handle: given up after ten counted attempts, alone, and kept.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{
    Ctx, Entity, handlers,
    store::{Sql, dead_letters},
};
use serde::{Deserialize, Serialize};

use crate::rows::{dead, waiting};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// More crashes than any message may cause.
const CRASHES: usize = 30;

/// What handlers tried, and whether what made them fail is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Poison {
    tried: Arc<Mutex<Vec<String>>>,
    cured: Arc<AtomicBool>,
}

impl Poison {
    fn try_it(&self, what: &str) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.push(what.to_owned());
    }

    fn tries(&self, what: &str) -> usize {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.iter().filter(|tried| *tried == what).count()
    }
}

/// Keeps what it could handle.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Inbox {
    notes: Vec<String>,
}

#[handlers]
impl Inbox {
    /// Keeps a note.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Keeps a note, unless there is poison in it.
    pub fn swallow(&mut self, text: String, ctx: &mut Ctx<Self>) {
        let poison = ctx.resource::<Poison>();
        poison.try_it(&text);
        assert!(poison.cured.load(Ordering::SeqCst), "{text} is poison");
        self.notes.push(text);
    }

    /// Keeps a note, unless the node dies of it.
    pub async fn explode(&mut self, text: String, ctx: &mut Ctx<Self>) {
        ctx.resource::<Poison>().try_it(&text);
        ctx.hosting().pass("explosion").await;
        self.notes.push(text);
    }

    /// Returns what it kept.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

async fn notes(sim: &Sim, id: &str) -> Vec<String> {
    let notes = sim.entity::<Inbox>(id).notes().timeout(MINUTE).await;
    notes.expect("the inbox answers")
}

#[sim::test(host(Inbox), seeds = 8)]
async fn a_message_that_always_panics_is_given_up_and_those_behind_it_go_on(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.note("before".into()).cast().await.expect("stored");
    inbox.swallow("bad".into()).cast().await.expect("stored");
    inbox.note("behind".into()).cast().await.expect("stored");

    sim.advance(2 * MINUTE).await;

    let dead = dead(&sim).await;
    let [letter] = dead.as_slice() else {
        panic!("one is given up: {dead:?}");
    };
    assert_eq!(poison.tries("bad"), 10);
    assert_eq!((letter.attempts, letter.method.as_str()), (10, "swallow"));
    assert!(letter.error.contains("bad is poison"), "{}", letter.error);
    assert_eq!(notes(&sim, "a").await, ["before", "behind"]);
    assert_eq!(waiting(&sim).await, 0);
}

/// The tenth failure was counted, and nobody knows whether the row became a dead letter.
#[sim::test(host(Inbox), seeds = 8)]
async fn a_burial_whose_end_is_unknown_does_not_keep_its_entity(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.swallow("bad".into()).cast().await.expect("stored");
    inbox.note("behind".into()).cast().await.expect("stored");
    // Ten commits count its failures.
    sim.fault(0, Fault::fail_after().only("commit").skip(10));

    sim.advance(3 * MINUTE).await;

    assert_eq!(dead(&sim).await.len(), 1);
    assert_eq!(notes(&sim, "a").await, ["behind"]);
    assert_eq!(waiting(&sim).await, 0);
}

#[sim::test(host(Inbox), seeds = 8)]
async fn a_message_that_fails_for_a_while_is_not_overtaken(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.swallow("first".into()).cast().await.expect("stored");
    inbox.note("second".into()).cast().await.expect("stored");
    sim.advance(Duration::from_secs(2)).await;
    let failed = poison.tries("first");

    poison.cured.store(true, Ordering::SeqCst);
    sim.advance(MINUTE).await;

    assert!((2..10).contains(&failed), "{failed}");
    assert_eq!(notes(&sim, "a").await, ["first", "second"]);
    assert!(dead(&sim).await.is_empty());
}

#[sim::test(host(Inbox), seeds = 8)]
async fn attempts_are_counted_across_crashes(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.swallow("bad".into()).cast().await.expect("stored");
    inbox.note("behind".into()).cast().await.expect("stored");

    for _ in 0..12 {
        sim.advance(Duration::from_secs(1 + sim.rng().below(3)))
            .await;
        sim.crash(0);
        sim.restart(0).await;
    }
    sim.advance(2 * MINUTE).await;

    let dead = dead(&sim).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].attempts, 10);
    // An attempt that ended in a crash may not have been counted, but only before the first one.
    assert!(poison.tries("bad") <= 11, "{}", poison.tries("bad"));
    assert_eq!(notes(&sim, "a").await, ["behind"]);
}

#[sim::test(host(Inbox), seeds = 8)]
async fn a_message_that_kills_its_node_is_given_up_and_those_behind_it_go_on(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.note("before".into()).await.expect("the node is up");
    for _ in 0..CRASHES {
        sim.crash_after("explosion");
    }
    inbox.explode("bomb".into()).cast().await.expect("stored");
    let behind = inbox.note("behind".into()).cast().await;

    sim.advance(5 * MINUTE).await;

    let dead = dead(&sim).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].attempts, 10);
    // The first time nobody could suspect it; ten more times it was counted before it ran.
    assert_eq!(poison.tries("bomb"), 11);
    let mut kept = vec!["before".to_owned()];
    kept.extend(behind.is_ok().then(|| "behind".to_owned()));
    assert_eq!(notes(&sim, "a").await, kept);
    assert_eq!(waiting(&sim).await, 0);
}

#[sim::test(host(Inbox), seeds = 8)]
async fn a_suspect_that_could_not_be_counted_is_tried_again_soon(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    let inbox = sim.entity::<Inbox>("a");
    inbox.note("before".into()).await.expect("the node is up");
    sim.crash_after("explosion");
    inbox.explode("dud".into()).cast().await.expect("stored");
    sim.advance(Duration::from_millis(100)).await;
    sim.fault(0, Fault::fail_before().only("commit").times(2));

    sim.advance(Duration::from_secs(30)).await;

    assert_eq!(poison.tries("dud"), 2);
    assert_eq!(notes(&sim, "a").await, ["before", "dud"]);
    assert_eq!(waiting(&sim).await, 0);
}

/// Stores a message of `inbox` and spoils its row.
async fn spoiled(sim: &Sim, inbox: &InboxRef, how: &'static str) {
    let stored = inbox.note(how.into()).after(HOUR).await;
    stored.expect("stored");
    let spoilt = sim.store().write("spoil", move |connection| {
        Box::pin(async move {
            let change = match how {
                "args" => "UPDATE mailbox SET due_at = NULL, args = x'c1' WHERE due_at > 0",
                "codec" => "UPDATE mailbox SET due_at = NULL, codec = 'morse' WHERE due_at > 0",
                "context" => "UPDATE mailbox SET due_at = NULL, context = x'c1' WHERE due_at > 0",
                _ => "UPDATE mailbox SET due_at = NULL, method = 'gone' WHERE due_at > 0",
            };
            connection.execute(&Sql::same(change), Vec::new()).await
        })
    });
    assert_eq!(spoilt.await.expect("spoilt"), 1);
}

#[sim::test(host(Inbox), seeds = 8)]
async fn rows_that_cannot_be_read_are_given_up_and_those_behind_them_go_on(sim: Sim) {
    let inbox = sim.entity::<Inbox>("a");
    // With the entity in memory and without, with the node alive and not.
    if sim.seed().is_multiple_of(2) {
        inbox.note("first".into()).await.expect("the node is up");
    }
    for how in ["args", "codec", "context", "method"] {
        spoiled(&sim, &inbox, how).await;
    }
    inbox.note("behind".into()).cast().await.expect("stored");
    if sim.seed().is_multiple_of(3) {
        sim.crash(0);
        sim.restart(0).await;
    }

    sim.advance(MINUTE).await;

    let dead = dead(&sim).await;
    assert_eq!(dead.len(), 4, "{dead:?}");
    assert_eq!(
        notes(&sim, "a").await.last().map(String::as_str),
        Some("behind")
    );
    assert_eq!(waiting(&sim).await, 0);
}

#[sim::test(host(Inbox), seeds = 4)]
async fn what_was_given_up_can_be_replayed_once_it_is_cured_or_discarded(sim: Sim) {
    let poison = Poison::default();
    sim.provide(poison.clone());
    for id in ["a", "b"] {
        let inbox = sim.entity::<Inbox>(id);
        let swallowed = inbox.swallow(format!("bad {id}")).cast().await;
        swallowed.expect("stored");
    }
    sim.advance(2 * MINUTE).await;
    let letters = dead(&sim).await;
    let of = |id: &str| letters.iter().find(|letter| letter.entity == id);
    let (replay, discard) = (of("a").expect("given up").seq, of("b").expect("too").seq);

    poison.cured.store(true, Ordering::SeqCst);
    let moved = sim.store().write("replay and discard", move |connection| {
        Box::pin(async move {
            let replayed = dead_letters::replay(connection, replay).await?;
            let twice = dead_letters::replay(connection, replay).await?;
            let discarded = dead_letters::discard(connection, discard).await?;
            Ok((replayed.is_some(), twice.is_some(), discarded))
        })
    });
    assert_eq!(moved.await.expect("moved"), (true, false, true));
    sim.advance(Duration::from_secs(10)).await;

    assert_eq!(notes(&sim, "a").await, ["bad a"]);
    assert!(notes(&sim, "b").await.is_empty());
    assert!(dead(&sim).await.is_empty());
    assert_eq!(waiting(&sim).await, 0);
}
