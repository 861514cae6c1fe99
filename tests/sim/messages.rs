//! Messages that have to wait: for their node, their kind, their turn, or for room.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{CallError, Ctx, Entity, handlers};

use crate::{
    kinds::{Counter, Tally},
    rows::number,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

// ENT-2 (second half): what left memory begins anew; what is durable goes on
#[sim::test(host(Tally, Counter), seeds = 2)]
async fn an_idle_entity_comes_back_fresh_or_as_it_was_stored(sim: Sim) {
    let (tally, counter) = (sim.entity::<Tally>("a"), sim.entity::<Counter>("a"));
    tally.add(5).await.expect("the node answers");
    counter.add(5).await.expect("the node answers");

    sim.advance(9 * MINUTE).await;
    let used = tally.add(1).await;
    sim.advance(11 * MINUTE).await;

    assert_eq!(used, Ok(6), "it was not idle for long enough yet");
    assert_eq!(tally.add(1).await, Ok(1));
    assert_eq!(counter.add(1).await, Ok(6));
}

// SND-11
#[sim::test(host(Tally), seeds = 4)]
async fn a_volatile_cast_is_sent_again_while_its_node_is_down(sim: Sim) {
    let tally = sim.entity::<Tally>("a");
    tally.add(1).await.expect("the node answers");
    sim.crash(0);
    sim.advance(SECOND).await;

    let casting = {
        let tally = tally.clone();
        tokio::spawn(async move { tally.add(10).cast().await })
    };
    sim.advance(SECOND).await;
    sim.restart(0).await;

    assert_eq!(casting.await.expect("the cast ends"), Ok(()));
    assert_eq!(tally.add(1).await, Ok(11), "once, at the next life");
}

/// What handlers learned that nobody waited for.
#[derive(Clone, Debug, Default)]
struct Learned(Arc<Mutex<Vec<String>>>);

impl Learned {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Has something left to do when its node stops.
#[derive(Debug, Default, Entity)]
pub(crate) struct Closer;

#[handlers]
impl Closer {
    /// After a while, sends a message that is stored and one that is not.
    pub async fn close_up(&self, ctx: &mut Ctx<Self>) -> Result<(), String> {
        ctx.hosting().clock().sleep(3 * SECOND).await;
        let stored = ctx.entity::<Counter>("a").add(1).cast().await;
        stored.map_err(|error| error.to_string())?;
        let sent = ctx.entity::<Tally>("a").add(1).cast().await;
        sent.map_err(|error| error.to_string())
    }

    /// After a while, asks `other`, and notes how that ended.
    pub async fn ask(&self, other: String, ctx: &mut Ctx<Self>) {
        ctx.hosting().clock().sleep(3 * SECOND).await;
        let asked = ctx.entity::<Tally>(other).add(1).timeout(4 * SECOND).await;
        let learned = match asked {
            Ok(sum) => sum.to_string(),
            Err(error) => error.kind().to_owned(),
        };
        ctx.resource::<Learned>().add(learned);
    }
}

// SND-12: what a handler sends while its node drains is sent
#[sim::test(host(Closer, Counter, Tally), seeds = 4)]
async fn a_handler_that_runs_when_its_node_stops_can_send(sim: Sim) {
    let closing = {
        let closer = sim.entity::<Closer>("a");
        tokio::spawn(async move { closer.close_up().await })
    };
    sim.advance(SECOND).await;

    let stopped = sim.shutdown(0).await.expect("it stops in order");
    let left = number(&sim, "SELECT COUNT(*) FROM mailbox").await;
    sim.restart(0).await;
    sim.advance(10 * SECOND).await;

    assert_eq!(closing.await.expect("the call ends"), Ok(()));
    assert_eq!(stopped.unfinished, 0);
    assert!((0..=1).contains(&left), "{left}");
    let counter = sim.entity::<Counter>("a");
    assert_eq!(counter.count().await, Ok(1), "the stored one ran once");
}

// SND-13: a call that can reach nobody ends with a typed error, and the drain ends
#[sim::test(nodes = 2, host(Closer, Tally), seeds = 4)]
async fn a_handler_that_asks_a_dead_node_does_not_hold_up_a_stop(sim: Sim) {
    let learned = Learned::default();
    sim.provide(learned.clone());
    sim.advance(5 * SECOND).await;
    let place = |node: usize| {
        let sim = &sim;
        move |id: &u64| sim.owner::<Closer>(id) == Some(node) && sim.owner::<Tally>(id).is_some()
    };
    let here = (0..64).find(place(0)).expect("node 0 owns one");
    let there = (0..64).find(|id| sim.owner::<Tally>(id) == Some(1));
    let there = there.expect("node 1 owns one").to_string();
    let closer = sim.entity::<Closer>(here);
    closer.ask(there).cast().await.expect("accepted");
    sim.advance(SECOND).await;

    sim.crash(1);
    let began = sim.now();
    let stopped = sim.shutdown(0).await.expect("it stops in order");

    assert_eq!(stopped.unfinished, 0);
    assert_eq!(learned.lines(), ["unavailable"]);
    assert!(sim.now() - began < 10 * SECOND, "{:?}", sim.now() - began);
}

// INB-5: stored messages wait however long a node takes to start
#[sim::test(host(Counter), seeds = 4)]
async fn a_stored_message_waits_while_its_node_starts_slowly(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add_slowly(1, 5000).cast().await.expect("stored");
    counter.add(10).cast().await.expect("stored");
    sim.advance(SECOND).await;

    sim.crash(0);
    sim.advance(5 * MINUTE).await;
    sim.fault(0, Fault::slow(SECOND).times(8));
    sim.restart(0).await;
    sim.advance(MINUTE).await;

    assert_eq!(counter.count().timeout(MINUTE).await, Ok(11));
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 0);
}

/// The node stores the message and dies before it says so: the next life runs it, and then the
/// sender, who knows nothing of that, sends it again.
#[sim::test(host(Counter), seeds = 8)]
async fn a_cast_that_is_sent_again_after_it_ran_runs_once(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the node answers");

    sim.fault(0, Fault::crash_after().only("commit"));
    let cast = counter.add(10).cast().await;
    sim.advance(MINUTE).await;

    assert_eq!(cast, Ok(()));
    assert_eq!(counter.count().await, Ok(11));
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 0);
}

// INB-6 in our semantics: a message for a kind that is not hosted is held, not failed
#[sim::test(host(Counter, Tally), seeds = 2)]
async fn a_message_waits_until_its_kind_is_hosted_again(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    let cast = counter.add(10).after(30 * SECOND).await;
    assert_eq!(cast, Ok(()));

    sim.release::<(Tally,)>();
    sim.crash(0);
    sim.restart(0).await;
    sim.advance(10 * MINUTE).await;
    let refused = counter.count().await;
    let held = number(&sim, "SELECT COUNT(*) FROM mailbox").await;
    let dead = number(&sim, "SELECT COUNT(*) FROM dead_letters").await;
    sim.release::<(Counter, Tally)>();
    sim.crash(0);
    sim.restart(0).await;
    sim.advance(MINUTE).await;

    assert!(
        matches!(refused, Err(CallError::NotHosted(_))),
        "{refused:?}"
    );
    assert_eq!((held, dead), (1, 0));
    assert_eq!(counter.count().await, Ok(10));
}

// RES-7: a node without room waits for it, and does not read in vain meanwhile
#[sim::test(host(Counter), seeds = 4)]
async fn a_node_without_room_reads_no_more_than_one_with(sim: Sim) {
    sim.residents_max(2);
    for id in 0..2 {
        let busy = sim.entity::<Counter>(id);
        let held = busy.add_slowly(1, 180_000).cast().await;
        held.expect("stored");
    }
    sim.advance(SECOND).await;
    let begun = sim.store_calls(0);
    sim.advance(MINUTE).await;
    let with_room = sim.store_calls(0) - begun;
    for id in 10..40 {
        let waiting = sim.entity::<Counter>(id);
        waiting.add(1).cast().await.expect("stored");
    }

    let begun = sim.store_calls(0);
    sim.advance(MINUTE).await;
    let without_room = sim.store_calls(0) - begun;
    let waiting = number(&sim, "SELECT COUNT(*) FROM mailbox").await;
    sim.advance(2 * MINUTE).await;

    assert_eq!(waiting, 32, "two run and nothing else can");
    // Not one read in four seconds more; sweep and poll come a little sooner or later.
    assert!(
        without_room <= with_room + 14,
        "{without_room} store calls instead of {with_room}"
    );
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 0);
    for id in 10..40 {
        let counter = sim.entity::<Counter>(id);
        assert_eq!(counter.count().timeout(MINUTE).await, Ok(1));
    }
}

// MSG-17: another node goes on with what a dead one was doing, and the caller is answered once
#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_call_whose_node_dies_while_it_runs_is_answered_by_the_next_owner(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the owner answers");
    let first = sim.owner::<Counter>("a").expect("somebody owns it");
    let calling = {
        let counter = counter.clone();
        tokio::spawn(async move { counter.add_slowly(10, 4000).timeout(MINUTE).await })
    };
    let casting = counter.add_slowly(100, 4000).cast().await;
    sim.advance(2 * SECOND).await;

    sim.crash(first);
    let answer = calling.await.expect("the call ends");
    sim.advance(MINUTE).await;

    assert_eq!(casting, Ok(()));
    assert!(matches!(answer, Ok(11 | 111)), "{answer:?}");
    assert_ne!(sim.owner::<Counter>("a"), Some(first));
    assert_eq!(counter.count().await, Ok(111));
}

// MSG-18
#[sim::test(host(Tally), seeds = 4)]
async fn a_volatile_message_is_neither_stored_nor_sent_again_after_a_kill(sim: Sim) {
    let tally = sim.entity::<Tally>("a");
    tally.wait(5000).cast().await.expect("accepted");
    tally.add(1).cast().await.expect("accepted");
    sim.advance(SECOND).await;
    let stored = number(
        &sim,
        "SELECT (SELECT COUNT(*) FROM mailbox) + (SELECT COUNT(*) FROM replies)",
    );
    let stored = stored.await;

    sim.crash(0);
    sim.restart(0).await;
    sim.advance(MINUTE).await;

    assert_eq!(stored, 0);
    assert_eq!(tally.add(1).await, Ok(1));
}

/// The time after which a message is no use is looked at when it is about to run: it may have
/// waited in memory, behind others or for its time.
#[sim::test(host(Counter), seeds = 4)]
async fn a_message_that_expires_in_memory_is_dropped(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    let slow = {
        let counter = counter.clone();
        tokio::spawn(async move { counter.add_slowly(1, 10_000).timeout(MINUTE).await })
    };
    sim.advance(SECOND).await;

    let stale = counter.add(10).expires(2 * SECOND).cast().await;
    stale.expect("stored");
    let fresh = counter.add(100).expires(MINUTE).cast().await;
    fresh.expect("stored");
    let stale = counter.add(1_000).expires(3 * SECOND).after(12 * SECOND);
    stale.await.expect("stored");
    sim.advance(MINUTE).await;

    assert_eq!(slow.await.expect("the call ends"), Ok(1));
    assert_eq!(counter.count().await, Ok(101));
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 0);
}

/// As far away as a number can say is far away, and nothing else.
#[sim::test(host(Counter), seeds = 1)]
async fn times_beyond_all_bounds_do_no_harm(sim: Sim) {
    let counter = sim.entity::<Counter>("a");

    counter.add(1).after(Duration::MAX).await.expect("stored");
    counter.add(1).at(i64::MAX).await.expect("stored");
    let never_stale = counter.add(10).expires(Duration::MAX).cast().await;
    never_stale.expect("stored");
    counter.add(100).at(i64::MIN).await.expect("stored");
    sim.advance(10 * SECOND).await;

    assert_eq!(counter.count().await, Ok(110));
    assert_eq!(number(&sim, "SELECT COUNT(*) FROM mailbox").await, 2);
}
