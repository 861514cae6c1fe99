//! Shards that change hands behind the back of whoever works in them: what is asked is done once,
//! and what waits is found.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};
use actor_core::{Ctx, Entity, Invocation, ShardId, codec::Codec, handlers, store::Sql};
use serde::{Deserialize, Serialize};

use crate::kinds::Counter;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Has others add, and remembers that it did.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose)]
struct Payer {
    paid: u64,
}

#[handlers]
impl Payer {
    /// Lets another counter add, and takes its time.
    pub async fn pay(&mut self, to: String, ms: u64, ctx: &mut Ctx<Self>) -> u64 {
        let added = ctx.entity::<Counter>(to).add(10).await;
        let sum = added.expect("the other counter answers");
        ctx.hosting().clock().sleep(Duration::from_millis(ms)).await;
        self.paid += 10;
        sum
    }

    /// Returns what was paid.
    pub fn paid(&self) -> u64 {
        self.paid
    }
}

/// Returns the shard of an entity.
async fn shard_of(sim: &Sim, kind: &'static str, id: String) -> ShardId {
    let shard = sim.run_on(
        0,
        move |node| async move { node.hosting().shard_of(kind, &id) },
    );
    shard.await.expect("node 0 is up")
}

async fn change(sim: &Sim, sql: String) -> u64 {
    let sql: &'static str = String::leak(sql);
    let changed = sim.store().write("change", move |connection| {
        Box::pin(async move { connection.execute(&Sql::same(sql), Vec::new()).await })
    });
    changed.await.expect("the store answers")
}

/// Gives a shard to the other of two nodes, which the row alone says.
async fn give_away(sim: &Sim, shard: ShardId) {
    let given = change(
        sim,
        format!(
            "UPDATE shards SET epoch = shards.epoch + 1, owner = other.owner,
               incarnation = other.incarnation
             FROM (SELECT owner, incarnation FROM shards
                   WHERE owner <> (SELECT owner FROM shards WHERE shard = {shard}) LIMIT 1) AS other
             WHERE shard = {shard}",
            shard = shard.0
        ),
    );
    assert_eq!(given.await, 1);
}

/// A gateway's call has no key. Its handler ran, asked somebody, and was refused by the database:
/// it runs again where its entity is now, and must not be taken for another call there.
#[sim::test(nodes = 2, host(Payer, Counter), seeds = 8)]
async fn what_an_unkeyed_call_asks_others_counts_once_though_its_shard_moves(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let here = |id: &u64| sim.owner::<Payer>(id) == Some(0);
    let payer = (0..64).find(here).expect("node 0 owns one");
    let shard = shard_of(&sim, "payer", payer.to_string()).await;
    let paying = {
        let sim = sim.clone();
        tokio::spawn(async move {
            let paying = sim.run_on(0, move |node| async move {
                let args = Codec::Json.encode(&serde_json::json!({"to": "b", "ms": 700}));
                let args = args.expect("encodes");
                let pay = Invocation::new("payer", payer, "pay").args(Codec::Json, args);
                node.client().invoke(pay.timeout(MINUTE)).await
            });
            paying.await.expect("node 0 lives")
        })
    };
    // The other node gives it back when it has looked twice: later than the handler ends.
    sim.advance(3 * SECOND / 10).await;

    give_away(&sim, shard).await;
    let paid = paying.await.expect("the call ends");

    assert!(paid.as_ref().is_ok_and(|paid| paid.ok), "{paid:?}");
    let payer = sim.entity::<Payer>(payer);
    assert_eq!(payer.paid().timeout(MINUTE).await, Ok(10));
    let counter = sim.entity::<Counter>("b");
    assert_eq!(counter.count().timeout(MINUTE).await, Ok(10));
}

/// Returns for how long the outcomes of calls are still remembered, in minutes, sorted.
async fn remembered(sim: &Sim) -> Vec<i64> {
    let now = sim.store().now_ms();
    let read = sim.store().read("replies", |c| {
        Box::pin(async move {
            let kept = Sql::same("SELECT expires_at FROM replies ORDER BY expires_at");
            let rows = c.query(&kept, Vec::new()).await?;
            rows.iter().map(|row| row.int(0)).collect()
        })
    });
    let times: Vec<i64> = read.await.expect("the store answers");
    let left = |at: i64| (at - now + 30_000) / 60_000;
    times.into_iter().map(left).collect()
}

/// The way to another node makes an identity for each call to a durable entity, and needs it no
/// longer than its caller waits. What has a caller's key is remembered for a day, and so is what
/// its handler asked others: the call may come again after an hour and run again.
#[sim::test(nodes = 2, host(Payer, Counter), seeds = 4)]
async fn the_outcome_of_a_call_is_remembered_for_as_long_as_it_may_be_repeated(sim: Sim) {
    const DAY: i64 = 24 * 60;
    sim.advance(5 * SECOND).await;
    let there = |id: &u64| sim.owner::<Counter>(id) == Some(1);
    let counter = (0..64).find(there).expect("node 1 owns one");
    let call = async |key: Option<&'static str>| {
        let called = sim.run_on(0, move |node| async move {
            let client = node.client();
            let counter = client.entity::<Counter>(counter);
            match key {
                Some(key) => counter.add(1).key(key).await,
                None => counter.add(1).await,
            }
        });
        called.await.expect("node 0 lives").expect("node 1 answers");
    };

    call(None).await;
    assert_eq!(remembered(&sim).await, [10]);
    call(Some("k")).await;
    assert_eq!(remembered(&sim).await, [10, DAY]);

    let cast = sim.run_on(0, move |node| async move {
        node.client().entity::<Counter>(counter).add(1).cast().await
    });
    cast.await.expect("node 0 lives").expect("it is stored");
    sim.advance(SECOND).await;
    assert_eq!(remembered(&sim).await, [10, 10, DAY]);

    let here = |id: &u64| sim.owner::<Payer>(id) == Some(0);
    let payer = (0..64).find(here).expect("node 0 owns one");
    let paid = sim.run_on(0, move |node| async move {
        let payer = node.client().entity::<Payer>(payer);
        let first = payer.pay("b".into(), 0).await;
        (first, payer.pay("b".into(), 0).key("once").await)
    });
    let paid = paid.await.expect("node 0 lives");
    assert_eq!(paid, (Ok(10), Ok(20)));
    // A call within the node without a key needs no memory; the one its handler made does.
    let all = remembered(&sim).await;
    let brief = all.iter().filter(|left| **left <= 10).count();
    assert_eq!((brief, all.len() - brief), (3, 3), "{all:?}");
}

/// Rows that wait in one shard, for a kind that nobody hosts.
const BACKLOG: u64 = 60_000;

#[sim::test(nodes = 2, host(Counter), seeds = 2)]
async fn what_waits_in_a_shard_that_was_won_is_found_behind_any_backlog(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let of = |node: usize| {
        let mut ids = 0..64_u64;
        ids.find(|id| sim.owner::<Counter>(id) == Some(node))
            .expect("it owns one")
    };
    let (kept, lost) = (of(0), of(1));
    let shard = shard_of(&sim, "counter", kept.to_string()).await;
    let template = sim.entity::<Counter>(kept).add(1).after(60 * MINUTE).await;
    template.expect("stored");
    let backlog = change(
        &sim,
        format!(
            "INSERT INTO mailbox (shard, kind, entity, id, method, codec, args, context, created_at)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BACKLOG})
             SELECT {}, 'nobody', 'x', CAST(printf('%016d', i) AS BLOB), method, codec, args,
               context, created_at FROM n, mailbox",
            shard.0
        ),
    );
    assert_eq!(backlog.await, BACKLOG);
    let counter = sim.entity::<Counter>(lost);
    counter.add_slowly(1, 2000).cast().await.expect("stored");
    counter.add(10).cast().await.expect("stored");
    sim.advance(SECOND).await;

    sim.crash(1);
    while sim.owner::<Counter>(lost) != Some(0) {
        sim.advance(SECOND / 10).await;
    }
    sim.advance(4 * SECOND).await;

    let left = change(
        &sim,
        "UPDATE mailbox SET attempts = attempts WHERE kind = 'counter' AND due_at IS NULL".into(),
    );
    assert_eq!(left.await, 0, "messages of the shard that was won wait");
    assert_eq!(counter.count().timeout(MINUTE).await, Ok(11));
}

/// The poll would find it, too, but only after seconds.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_message_to_an_entity_of_another_node_is_handled_at_once(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let of = |node: usize| {
        let mut ids = 0..64_u64;
        ids.find(|id| sim.owner::<Counter>(id) == Some(node))
            .expect("it owns one")
    };
    let (from, to) = (sim.entity::<Counter>(of(0)), of(1).to_string());

    for round in 1..=6 {
        let added = from.add_both(1, to.clone()).await;
        sim.advance(SECOND / 2).await;

        assert_eq!(added, Ok(round));
        let left = change(&sim, "UPDATE mailbox SET attempts = attempts".into());
        assert_eq!(left.await, 0, "round {round}");
    }
}
