//! Shards that a node loses, wins back, gives away half-way or learns of too late: whatever the
//! rows said meanwhile counts, and nothing that was in memory before.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{
    ShardId,
    codec::Codec,
    id::NodeId,
    store::{Sql, Value},
};

use crate::{
    kinds::{Counter, Tally},
    poison::{Inbox, Poison},
    rows::number,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Runs one statement in the world's database; returns how many rows it changed.
async fn execute(sim: &Sim, sql: &'static str, values: Vec<Value>) -> u64 {
    let changed = sim.store().write("test", move |c| {
        Box::pin(async move { c.execute(&Sql::same(sql), values).await })
    });
    changed.await.expect("the store answers")
}

async fn shard_of(sim: &Sim, node: usize, kind: &'static str, id: String) -> ShardId {
    let asked = sim.run_on(node, move |node| async move {
        node.client().hosting().shard_of(kind, &id)
    });
    asked.await.expect("the node lives")
}

/// Returns the first id whose entity of this kind lies in `shard`.
async fn in_shard(sim: &Sim, kind: &'static str, shard: ShardId) -> String {
    for number in 0.. {
        let id = format!("in-{number}");
        if shard_of(sim, 0, kind, id.clone()).await == shard {
            return id;
        }
    }
    unreachable!("the numbers do not end")
}

/// Says whether the node believes to own the shard.
async fn owns(sim: &Sim, node: usize, shard: ShardId) -> bool {
    let owns = sim.run_on(node, move |node| async move {
        node.hosting().shards().epoch(shard).is_some()
    });
    owns.await.expect("the node lives")
}

/// Lets somebody who is not there take a shard; everybody may take it back.
async fn steal(sim: &Sim, shard: ShardId) {
    let sql = "UPDATE shards SET owner = 'ghost', incarnation = 1, epoch = epoch + 1
               WHERE shard = $1";
    assert_eq!(execute(sim, sql, vec![shard.into()]).await, 1);
}

/// Steals a shard from node 0, lets the database refuse a write there before the node looks, does
/// `meanwhile`, and lets it look.
async fn lose_by_a_write(sim: &Sim, shard: ShardId, meanwhile: impl AsyncFnOnce()) {
    let busy = in_shard(sim, "counter", shard).await;
    let add = move |sim: Sim| async move {
        let added = sim.run_on(0, |node| async move {
            let counter = node.client().entity::<Counter>(busy);
            counter.add(1).timeout(2 * SECOND).await
        });
        drop(added.await);
    };
    add.clone()(sim.clone()).await;
    sim.fault(0, Fault::fail_before().only("shard map").until_cleared());
    sim.advance(2 * SECOND).await;
    steal(sim, shard).await;
    let refused = tokio::spawn(add(sim.clone()));
    sim.advance(SECOND).await;
    assert!(!owns(sim, 0, shard).await, "no write was refused");
    meanwhile().await;
    sim.clear_faults(0);
    sim.advance(5 * SECOND).await;
    refused.await.expect("it ends");
}

/// The database refuses a write of one entity, and only by that the node learns that the shard was
/// somebody else's. Another entity of the shard did nothing meanwhile, and was changed.
#[sim::test(host(Counter, Tally), seeds = 4)]
async fn an_idle_entity_is_read_again_when_its_shard_was_lost_by_a_refused_write(sim: Sim) {
    let idle = sim.entity::<Counter>("idle");
    idle.add(1).await.expect("the owner answers");
    let model = sim.entity::<Counter>("model").add(7).await;
    let shard = shard_of(&sim, 0, "counter", "idle".into()).await;

    lose_by_a_write(&sim, shard, async || {
        let sql = "UPDATE entities SET version = version + 1, base = version, state =
                     (SELECT model.state FROM entities AS model WHERE model.id = 'model')
                   WHERE id = 'idle'";
        assert_eq!(execute(&sim, sql, vec![]).await, 1);
    })
    .await;

    assert_eq!(model, Ok(7));
    assert_eq!(idle.count().await, Ok(7), "somebody else had stored it");
    assert_eq!(idle.add(1).await, Ok(8));
}

/// What a volatile entity knew belongs to the time before its shard was lost.
#[sim::test(host(Counter, Tally), seeds = 4)]
async fn a_volatile_entity_does_not_come_back_with_its_shard(sim: Sim) {
    let tally = sim.entity::<Tally>("idle");
    tally.add(5).await.expect("the owner answers");
    let shard = shard_of(&sim, 0, "tally", "idle".into()).await;

    lose_by_a_write(&sim, shard, async || {}).await;

    assert_eq!(tally.add(1).await, Ok(1));
}

/// Asks for a node to rest, or calls it back.
async fn rest(sim: &Sim, node: usize, rests: bool) {
    let asked = sim.run_on(node, move |node| async move {
        let name = node.name().clone();
        match rests {
            true => node.send_to_rest(&name).await.map_err(drop),
            false => node.call_back(&name).await.map_err(drop),
        }
    });
    let asked = asked.await.expect("the node lives");
    assert!(asked.is_ok_and(|life| life.is_some()));
}

/// Part of a wave is released in vain while something still runs in another part of it, and then
/// the shards are wanted where they are.
#[sim::test(nodes = 2, host(Counter, Tally), seeds = 6)]
async fn a_handoff_that_fails_half_way_leaves_no_shard_frozen(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let id = (0..).find(|id| sim.owner::<Counter>(id) == Some(1));
    let counter = sim.entity::<Counter>(id.expect("it owns some"));
    let slow = tokio::spawn({
        let counter = counter.clone();
        async move { counter.add_slowly(1, 3_000).timeout(MINUTE).await }
    });
    sim.advance(SECOND).await;

    sim.fault(1, Fault::fail_before().only("release shards"));
    rest(&sim, 1, true).await;
    sim.advance(Duration::from_millis(50)).await;
    rest(&sim, 1, false).await;
    sim.advance(30 * SECOND).await;
    let after = counter.add(1).await;

    assert_eq!(slow.await.expect("it ends"), Ok(1));
    assert_eq!(after, Ok(2));
    for id in 0..32 {
        let added = sim.entity::<Tally>(id).add(1).await;
        assert_eq!(added, Ok(1), "{id}");
    }
}

/// The map cannot be read, so only the renewal of the lease tells.
#[sim::test(host(Counter, Tally), seeds = 4)]
async fn a_renewal_tells_what_is_not_owned_any_more(sim: Sim) {
    let tally = sim.entity::<Tally>("a");
    tally.add(1).await.expect("the owner answers");
    let shard = shard_of(&sim, 0, "tally", "a".into()).await;
    sim.fault(0, Fault::fail_before().only("shard map").until_cleared());
    sim.advance(SECOND).await;

    steal(&sim, shard).await;
    // A third of the lease, and some.
    sim.advance(4 * SECOND).await;
    let owned = owns(&sim, 0, shard).await;
    let of_others = shard_of(&sim, 0, "tally", "b".into()).await;
    let kept = owns(&sim, 0, of_others).await;

    assert_ne!(shard, of_others);
    assert!(!owned, "the renewal did not name it");
    assert!(kept);
}

/// Returns what a node noticed, as JSON: one line for each.
async fn changes(sim: &Sim, node: usize) -> Vec<String> {
    let cluster = sim.run_on(node, |node| async move { node.cluster() });
    let changes = cluster.await.expect("the node lives").changes;
    let lines = changes.iter().map(|change| Codec::Json.encode(change));
    lines
        .map(|line| String::from_utf8(line.expect("written")).expect("JSON is text"))
        .collect()
}

/// A rolling restart that makes leases shorter, or longer.
#[sim::test(nodes = 3, host(Counter, Tally), seeds = 4)]
async fn nodes_with_other_leases_take_nothing_from_those_who_live(sim: Sim) {
    sim.advance(5 * SECOND).await;
    for (node, seconds) in [(1, 3), (2, 40)] {
        sim.shutdown(node).await.expect("it stops in order");
        sim.lease_ttl(Duration::from_secs(seconds));
        sim.restart(node).await;
        sim.advance(MINUTE).await;
    }

    for node in 0..3 {
        let mut changes = changes(&sim, node).await;
        let harmless = |line: &String| {
            let harm = ["lost", "fenced", "lease_lost"];
            let orphans = line.contains("orphans") && !line.contains(r#""orphans":0"#);
            !orphans
                && !harm
                    .iter()
                    .any(|harm| line.contains(&format!(r#""{harm}""#)))
        };
        changes.retain(|line| !harmless(line));
        assert!(changes.is_empty(), "node {node}: {changes:?}");
        let owns = (0..64).filter(|id| sim.owner::<Counter>(id) == Some(node));
        assert!(owns.count() > 0, "node {node} owns nothing");
    }
}

/// A message that kills its node is counted before it runs wherever its former owner died of it,
/// also if the taker was not told that it took the shard.
#[sim::test(nodes = 2, host(Inbox), seeds = 4)]
async fn what_a_takeover_without_an_answer_brought_is_suspect(sim: Sim) {
    sim.provide(Poison::default());
    sim.advance(5 * SECOND).await;
    let id = (0..).find(|id| sim.owner::<Inbox>(id) == Some(1));
    let inbox = sim.entity::<Inbox>(id.expect("it owns some"));
    let bomb = inbox.explode("bomb".into()).after(40 * SECOND);
    bomb.await.expect("stored");

    sim.fault(0, Fault::fail_after().only("take shards"));
    sim.crash(1);
    sim.advance(30 * SECOND).await;
    sim.crash_after("explosion");
    while sim.is_up(0) {
        sim.advance(Duration::from_millis(20)).await;
    }
    assert_eq!(number(&sim, "SELECT attempts FROM mailbox").await, 1);
}

/// Leases of five minutes: without being told, nobody would look for half a minute.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn an_operator_lets_everybody_look_at_once(sim: Sim) {
    sim.lease_ttl(5 * MINUTE);
    sim.advance(MINUTE).await;
    let before = (0..64).filter(|id| sim.owner::<Counter>(id) == Some(1));
    let before = before.count();

    let sql = "UPDATE nodes SET weight = 0 WHERE node = $1";
    let name = NodeId::new("n1");
    assert_eq!(execute(&sim, sql, vec![(&name).into()]).await, 1);
    let told = sim.run_on(0, |node| async move { node.rebalance() });
    let told = told.await.expect("the node lives");
    sim.advance(2 * SECOND).await;

    assert!(before > 0, "there was nothing to move");
    assert_eq!(told, 1);
    let owners: Vec<_> = (0..64).map(|id| sim.owner::<Counter>(id)).collect();
    assert_eq!(owners, vec![Some(0); 64]);
}

/// A start that fails after it registered holds nothing: nobody can end what it began.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_start_that_fails_gives_its_lease_back(sim: Sim) {
    sim.advance(5 * SECOND).await;
    sim.shutdown(1).await.expect("it stops in order");
    let own = "SELECT COUNT(*) FROM nodes WHERE node = 'n1' AND incarnation = 2";
    let over = "SELECT COUNT(*) FROM nodes WHERE node = 'n1' AND expires_at = 0";

    sim.fault(1, Fault::fail_before().only("shard map").times(2));
    sim.start_node(1);
    let give_up = sim.now() + 5 * SECOND;
    while number(&sim, own).await == 0 && sim.now() < give_up {
        sim.advance(Duration::from_millis(5)).await;
    }
    sim.advance(Duration::from_millis(200)).await;
    let registered = number(&sim, own).await;
    let over = number(&sim, over).await;

    assert_eq!((registered, over), (1, 1));
}

/// Whoever gets the port next could speak in its name, so it stops long before its lease ends; its
/// next life begins with nothing. Leases of five minutes: nothing else would end the first one.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_node_that_loses_its_port_stops_serving(sim: Sim) {
    sim.lease_ttl(5 * MINUTE);
    sim.advance(MINUTE).await;
    let owned = |sim: &Sim| {
        (0..64)
            .filter(|id| sim.owner::<Counter>(id) == Some(1))
            .collect()
    };
    let before: Vec<u64> = owned(&sim);
    let Some(id) = before.first() else {
        panic!("it owns something");
    };
    assert_eq!(sim.entity::<Counter>(id).add(1).await, Ok(1));

    sim.lose_port(1);
    sim.advance(5 * SECOND + SECOND / 2).await;
    let stopped = !sim.is_up(1);
    sim.advance(5 * SECOND).await;

    let added = sim.entity::<Counter>(id).add(1).timeout(MINUTE).await;
    let life = number(&sim, "SELECT incarnation FROM nodes WHERE node = 'n1'").await;
    assert!(stopped, "it went on without its port");
    assert_eq!(added, Ok(2));
    assert_eq!(life, 2);
}

/// Before the node listens to what its links tell.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_node_that_loses_its_port_while_it_starts_does_not_serve_either(sim: Sim) {
    sim.lease_ttl(5 * MINUTE);
    sim.advance(MINUTE).await;
    sim.shutdown(1).await.expect("it stops in order");
    let life = async || number(&sim, "SELECT incarnation FROM nodes WHERE node = 'n1'").await;
    // It has joined then, and waits to see who else is there.
    sim.fault(1, Fault::slow(20 * SECOND).only("shard map"));
    sim.start_node(1);
    sim.advance(5 * SECOND).await;
    let joined = life().await;

    sim.lose_port(1);
    sim.advance(MINUTE).await;

    assert_eq!(joined, 2, "it has registered");
    assert_eq!(life().await, 3, "it went on without its port");
    assert!(sim.is_up(1), "its next life has the port again");
}

/// Nobody stops for it, and nothing that was acknowledged is lost.
#[sim::test(nodes = 3, host(Counter), seeds = 6)]
async fn a_database_clock_that_steps_back_stops_nobody(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let mut sum = 0;
    for step_ms in [-4_000, -3_600_000, -15_000] {
        for id in 0..8_u64 {
            let added = sim.entity::<Counter>(id).add(1).timeout(MINUTE).await;
            assert_eq!(added, Ok(sum + 1));
        }
        sum += 1;
        sim.step_database_clock(step_ms);
        let pause = Duration::from_millis(sim.rng().below(3_000));
        sim.advance(pause).await;
    }
    sim.advance(20 * SECOND).await;

    for node in 0..3 {
        let changes = changes(&sim, node).await;
        let lost = changes.iter().filter(|line| line.contains("lease_lost"));
        assert_eq!(lost.count(), 0, "node {node}: {changes:?}");
    }
    for id in 0..64_u64 {
        assert!(sim.owner::<Counter>(id).is_some(), "nobody owns {id}");
    }
    for id in 0..8_u64 {
        assert_eq!(sim.entity::<Counter>(id).count().await, Ok(sum));
    }
}

/// The dead are waited for by the database's clock.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn after_a_step_back_a_dead_nodes_shards_wait_for_that_much_longer(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let id = (0..64).find(|id| sim.owner::<Counter>(id) == Some(1));
    let id = id.expect("it owns some");

    // A lost machine: its peer is not refused, it hears nothing.
    sim.isolate(1);
    sim.crash(1);
    sim.step_database_clock(-5_000);
    sim.advance(11 * SECOND).await;
    let early = sim.owner::<Counter>(id);
    sim.advance(6 * SECOND).await;

    assert_eq!((early, sim.owner::<Counter>(id)), (None, Some(0)));
}

/// Further back than any renewal can have written: the row is void.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn after_a_long_step_back_a_dead_nodes_shards_are_taken_at_the_next_look(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let id = (0..64).find(|id| sim.owner::<Counter>(id) == Some(1));
    let id = id.expect("it owns some");

    sim.isolate(1);
    sim.crash(1);
    sim.step_database_clock(-3_600_000);
    sim.advance(6 * SECOND).await;

    assert_eq!(sim.owner::<Counter>(id), Some(0));
}
