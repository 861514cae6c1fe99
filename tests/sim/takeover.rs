//! `takeover = "lease"`: handlers of one entity never run at two nodes at the same time, at the
//! price of a wait where a node was declared dead before its lease was over.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{
    CallError, Client, Ctx, Entity, Invocation, Refusal, codec::Codec, entity::Encoded, handlers,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::rows::waiting;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(10);

/// One run of a handler, by the database's clock.
#[derive(Clone, Debug)]
struct Turn {
    life: String,
    first_ms: i64,
    /// Its last sign of life.
    last_ms: i64,
}

/// Where handlers write down that they run. All nodes share it.
#[derive(Clone, Debug, Default)]
struct Diary(Arc<Mutex<Vec<Turn>>>);

impl Diary {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lives for so many steps of 50 ms.
    async fn live<K>(&self, steps: u64, ctx: &Ctx<K>) {
        let now_ms = || ctx.hosting().store().now_ms();
        let turn = {
            let mut turns = self.lock();
            turns.push(Turn {
                life: life(
                    ctx.hosting().shards().node(),
                    ctx.hosting().shards().incarnation().0,
                ),
                first_ms: now_ms(),
                last_ms: now_ms(),
            });
            turns.len() - 1
        };
        for _ in 0..steps {
            ctx.hosting().clock().sleep(SECOND / 20).await;
            self.lock()[turn].last_ms = now_ms();
        }
    }

    /// Returns two turns of different nodes that were alive at one time, if there are any.
    fn two_at_a_time(&self) -> Option<(Turn, Turn)> {
        let turns = self.lock().clone();
        turns.iter().enumerate().find_map(|(index, one)| {
            let meets = |other: &&Turn| {
                other.life != one.life
                    && one.last_ms >= other.first_ms
                    && other.last_ms >= one.first_ms
            };
            let other = turns[index + 1..].iter().find(meets)?;
            Some((one.clone(), other.clone()))
        })
    }

    /// Returns when the first turn began that was not one of the node's first life.
    fn next_began_ms(&self, node: usize) -> Option<i64> {
        let first = life(format_args!("n{node}"), 1);
        let turns = self.lock();
        let others = turns.iter().filter(|turn| turn.life != first);
        others.map(|turn| turn.first_ms).min()
    }
}

fn life(node: impl std::fmt::Display, incarnation: u64) -> String {
    format!("{node}#{incarnation}")
}

/// Must never run at two nodes at once.
#[derive(Debug, Default, Entity)]
#[entity(takeover = "lease")]
pub(crate) struct Solo;

#[handlers]
impl Solo {
    /// Lives for a while, and may do so twice.
    #[idempotent]
    pub async fn live(&mut self, steps: u64, ctx: &mut Ctx<Self>) {
        ctx.resource::<Diary>().live(steps, ctx).await;
    }
}

/// May run at two nodes for a moment.
#[derive(Debug, Default, Entity)]
pub(crate) struct Duo;

#[handlers]
impl Duo {
    /// Lives for a while, and may do so twice.
    #[idempotent]
    pub async fn live(&mut self, steps: u64, ctx: &mut Ctx<Self>) {
        ctx.resource::<Diary>().live(steps, ctx).await;
    }
}

/// Keeps what it is told, and must never run at two nodes at once.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, takeover = "lease")]
pub(crate) struct Ledger {
    lines: Vec<String>,
}

#[handlers]
impl Ledger {
    /// Adds a line.
    pub fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Adds a line later.
    pub async fn add_later(&mut self, line: String, seconds: u64, ctx: &mut Ctx<Self>) {
        let me = ctx.entity::<Ledger>(ctx.id());
        let later = me
            .add(line)
            .after(SECOND * u32::try_from(seconds).unwrap_or(u32::MAX));
        later.await.expect("it becomes part of the commit");
    }

    /// Returns all lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }
}

/// Calls `live` of the entity `a` of a kind known by name.
async fn live(client: &Client, kind: &str, steps: u64) -> Result<Encoded, Refusal> {
    let args = serde_json::json!({ "steps": steps }).to_string();
    let call = Invocation::new(kind, "a", "live").args(Codec::Json, args.into_bytes());
    client.invoke(call.timeout(MINUTE)).await
}

/// Calls `live` inside a node, over and over, as long as it answers.
fn lives_inside(sim: &Sim, node: usize, kind: &'static str) -> JoinHandle<()> {
    let sim = sim.clone();
    tokio::spawn(async move {
        loop {
            let lived = sim.run_on(node, move |node| async move {
                live(&node.client(), kind, 2).await.is_ok()
            });
            if lived.await != Ok(true) {
                return;
            }
        }
    })
}

/// Lets everybody else declare the owner of `a` dead while it lives, and calls `a` both inside it
/// and from outside. Returns when it was seen dead.
async fn deposed_alive(sim: &Sim, kind: &'static str, owner: usize) -> i64 {
    // So that it does not find out at once.
    for label in ["renew lease", "shard map"] {
        let slow = Fault::slow(2 * SECOND).only(label);
        sim.fault(owner, slow.until_cleared());
    }
    let inside = lives_inside(sim, owner, kind);
    sim.advance(SECOND).await;

    let declared_ms = sim.database_ms();
    for witness in (0..sim.nodes()).filter(|node| *node != owner) {
        sim.refuse(witness, owner);
    }
    sim.advance(SECOND / 10).await;
    for _ in 0..60 {
        let lived = live(&sim.client(), kind, 2).await;
        assert!(lived.is_ok(), "callers wait: {lived:?}");
    }
    sim.advance(15 * SECOND).await;
    inside.abort();
    declared_ms
}

#[sim::test(nodes = 3, host(Solo), seeds = 8)]
async fn no_two_nodes_run_one_entity_when_a_live_one_is_declared_dead(sim: Sim) {
    let diary = Diary::default();
    sim.provide(diary.clone());
    sim.advance(5 * SECOND).await;
    let owner = sim.owner::<Solo>("a").expect("somebody owns it");

    let declared_ms = deposed_alive(&sim, "solo", owner).await;

    assert!(
        diary.two_at_a_time().is_none(),
        "{:?}",
        diary.two_at_a_time()
    );
    let next_ms = diary.next_began_ms(owner).expect("another node runs it");
    let waited_ms = next_ms - declared_ms;
    let ttl_ms = i64::try_from(TTL.as_millis()).expect("small");
    assert!(
        waited_ms >= ttl_ms,
        "the next owner began after {waited_ms} ms"
    );
    assert!(
        waited_ms < ttl_ms + 2_500,
        "the next owner began after {waited_ms} ms"
    );
}

/// The price of early takeover, which the test above would otherwise not show.
#[sim::test(nodes = 3, host(Duo), seeds = 4)]
async fn two_nodes_may_run_one_entity_of_another_kind(sim: Sim) {
    let diary = Diary::default();
    sim.provide(diary.clone());
    sim.advance(5 * SECOND).await;
    let owner = sim.owner::<Duo>("a").expect("somebody owns it");

    deposed_alive(&sim, "duo", owner).await;

    assert!(diary.two_at_a_time().is_some(), "{:?}", diary.lock());
}

/// It sleeps inside a handler, and its lease is over before it wakes.
#[sim::test(nodes = 3, host(Solo), seeds = 8)]
async fn a_handler_of_a_frozen_node_does_nothing_more_when_it_thaws(sim: Sim) {
    let diary = Diary::default();
    sim.provide(diary.clone());
    sim.advance(5 * SECOND).await;
    let owner = sim.owner::<Solo>("a").expect("somebody owns it");
    let client = sim.client();
    let long = tokio::spawn(async move { live(&client, "solo", 1_000).await });
    sim.advance(SECOND + Duration::from_millis(sim.rng().below(200)))
        .await;

    sim.freeze(owner);
    let frozen_ms = sim.database_ms();
    sim.advance(14 * SECOND).await;
    let next = live(&sim.client(), "solo", 10).await;
    sim.thaw(owner);
    sim.advance(5 * SECOND).await;
    long.abort();

    assert!(next.is_ok(), "{next:?}");
    let turns = diary.lock();
    assert!(turns.len() >= 2, "{turns:?}");
    assert!(
        turns[0].last_ms <= frozen_ms,
        "it woke up and went on: {turns:?}"
    );
}

/// Returns how long it takes until the entity `a` of a kind answers.
async fn pause(sim: &Sim, kind: &str) -> Duration {
    let began = sim.now();
    let lived = live(&sim.client(), kind, 0).await;
    assert!(lived.is_ok(), "{lived:?}");
    sim.now() - began
}

/// Nobody can see that a process is dead and not only out of reach: what must not run twice waits.
#[sim::test(nodes = 3, host(Solo, Duo), seeds = 6)]
async fn after_a_crash_that_was_seen_only_kinds_that_ask_for_it_wait(sim: Sim) {
    sim.provide(Diary::default());
    sim.advance(5 * SECOND).await;
    let solo = sim.owner::<Solo>("a").expect("somebody owns it");
    let duo = sim.owner::<Duo>("a").expect("somebody owns it");

    sim.crash(duo);
    let early = pause(&sim, "duo").await;
    if duo != solo {
        sim.restart(duo).await;
        sim.advance(20 * SECOND).await;
        let solo = sim.owner::<Solo>("a").expect("somebody owns it");
        sim.crash(solo);
    }
    let late = early + pause(&sim, "solo").await;

    assert!(early < SECOND, "{early:?}");
    assert!(late >= TTL && late < TTL + 3 * SECOND, "{late:?}");
}

/// A caller that does not wait that long is told so in time.
#[sim::test(nodes = 3, host(Solo), seeds = 4)]
async fn who_waits_for_a_lease_waits_until_its_deadline(sim: Sim) {
    sim.provide(Diary::default());
    sim.advance(5 * SECOND).await;
    let solo = sim.entity::<Solo>("a");
    let owner = sim.owner::<Solo>("a").expect("somebody owns it");
    sim.crash(owner);
    sim.advance(SECOND).await;
    let next = sim.owner::<Solo>("a").expect("it was taken at once");

    let began = sim.now();
    let outside = solo.live(0).timeout(2 * SECOND).await;
    let inside = sim.run_on(next, |node| async move {
        let solo = node.client().entity::<Solo>("a");
        solo.live(0).timeout(2 * SECOND).await
    });
    let inside = inside.await.expect("it lives");
    let took = sim.now() - began;

    // The deadline may pass while it is being asked for once more.
    for refused in [outside, inside] {
        assert!(
            matches!(
                refused,
                Err(CallError::Unavailable(_) | CallError::Timeout { .. })
            ),
            "{refused:?}"
        );
    }
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!(solo.live(0).timeout(MINUTE).await, Ok(()));
}

#[sim::test(nodes = 3, host(Solo), seeds = 4)]
async fn nobody_waits_for_a_lease_that_was_given_up_or_is_over(sim: Sim) {
    sim.provide(Diary::default());
    sim.advance(5 * SECOND).await;
    let first = sim.owner::<Solo>("a").expect("somebody owns it");
    pause(&sim, "solo").await;

    sim.shutdown(first).await.expect("it stops in order");
    let given_up = pause(&sim, "solo").await;
    sim.restart(first).await;
    sim.advance(5 * SECOND).await;
    let second = sim.owner::<Solo>("a").expect("somebody owns it");
    sim.isolate(second);
    sim.advance(Duration::from_millis(20)).await;
    sim.crash(second);
    let ran_out = pause(&sim, "solo").await;

    assert!(given_up < SECOND, "{given_up:?}");
    assert!(ran_out < TTL + 3 * SECOND, "{ran_out:?}");
}

/// With a lease so long that what waits for it would count as stuck.
#[sim::test(nodes = 3, host(Ledger), seeds = 6)]
async fn stored_messages_wait_for_the_lease_and_are_not_stuck(sim: Sim) -> actor_core::Result<()> {
    sim.lease_ttl(MINUTE);
    sim.advance(20 * SECOND).await;
    let ledger = sim.entity::<Ledger>("a");
    ledger.add("first".into()).await?;
    ledger.add_later("timer".into(), 3).await?;
    let owner = sim.owner::<Ledger>("a").expect("somebody owns it");

    sim.crash(owner);
    sim.advance(2 * SECOND).await;
    let began = sim.now();
    ledger.add("cast".into()).cast().await?;
    let took = sim.now() - began;
    sim.advance(45 * SECOND).await;
    let next = sim.owner::<Ledger>("a").expect("it was taken at once");
    let stuck = sim.run_on(next, |node| async move {
        let hosting = node.hosting();
        let active = hosting.hosted("ledger").map(|kind| kind.stats().resident);
        (hosting.stuck().await.ok(), active.ok())
    });
    let stuck = stuck.await.expect("it lives");
    sim.advance(25 * SECOND).await;
    let backlog = {
        let store = sim.store();
        store.read("backlog", |c| {
            Box::pin(actor_core::store::mailbox::backlog(c))
        })
    };
    let left = backlog.await?.due;

    assert!(
        took < SECOND,
        "a cast is stored at once, not after {took:?}"
    );
    assert_eq!(stuck, (Some(0), Some(0)), "stuck, and active");
    assert_eq!(left, 0, "what waited ran by itself");
    let mut lines = ledger.lines().await?;
    lines.sort();
    assert_eq!(lines, ["cast", "first", "timer"]);
    Ok(())
}

/// Those that were stored before the takeover, too, and not only at the next poll.
#[sim::test(nodes = 3, host(Ledger), seeds = 6)]
async fn stored_messages_run_as_soon_as_the_lease_is_over(sim: Sim) -> actor_core::Result<()> {
    sim.advance(20 * SECOND).await;
    let owner = sim.owner::<Ledger>("a").expect("somebody owns it");
    let ledger = sim.entity::<Ledger>("a");
    ledger.add("first".into()).await?;
    sim.crash(owner);
    sim.advance(2 * SECOND).await;
    let next = sim.owner::<Ledger>("a").expect("it was taken at once");
    ledger.add("cast".into()).cast().await?;
    let waits = waiting(&sim).await;
    let is_over = async || {
        let over = sim.run_on(next, |node| async move {
            let hosting = node.hosting();
            let shard = hosting.shard_of("ledger", "a");
            hosting.shards().is_outlasted(shard)
        });
        over.await.expect("it lives")
    };

    let began = sim.now();
    while !is_over().await {
        assert!(sim.now() < began + 2 * TTL, "the lease is never over");
        sim.advance(SECOND / 20).await;
    }
    sim.advance(SECOND / 4).await;

    assert_eq!(waits, 1, "it waits for the lease");
    assert_eq!(waiting(&sim).await, 0, "it is left to the next poll");
    Ok(())
}
