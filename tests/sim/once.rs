//! Singletons: what runs once in a cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::{
    node::SingletonState,
    sim::{self, Fault, Sim},
};
use actor_core::{
    Failure,
    id::{Incarnation, NodeId},
    store::Sql,
};

use crate::{
    diary::{at_work, declare_dead, diarist, end_lease, lives, runner, states},
    kinds::Counter,
};

const SECOND: Duration = Duration::from_secs(1);
const TTL_MS: i64 = 10_000;

// SNG-1.
#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_singleton_runs_once_and_follows_the_death_of_its_node(sim: Sim) {
    let (diary, first) = at_work(&sim, 1).await;

    let died_ms = sim.database_ms();
    sim.crash(first);
    sim.advance(13 * SECOND).await;
    let second = runner(&sim, "diarist", None)
        .await
        .expect("somebody else runs it");

    assert_ne!(first, second);
    let stays = diary.one_at_a_time();
    assert_eq!(stays.len(), 2, "{stays:?}");
    // The lease ran out by itself: nobody waits a second time.
    let late_ms = stays[1].first_ms - died_ms;
    assert!(late_ms < TTL_MS + 2_500, "it came back after {late_ms} ms");
    assert!(stays[1].last_ms > sim.database_ms() - 500, "it lives");
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_node_declared_dead_early_runs_its_singleton_to_the_end_of_its_lease_alone(sim: Sim) {
    let (diary, first) = at_work(&sim, 3_000).await;

    let declared_ms = sim.database_ms();
    declare_dead(&sim, first).await;
    sim.advance(16 * SECOND).await;

    let stays = diary.one_at_a_time();
    assert_eq!(stays.len(), 2, "{stays:?}");
    assert!(
        stays[0].last_ms > declared_ms,
        "it lived on, and did not know"
    );
    let waited_ms = stays[1].first_ms - declared_ms;
    assert!(
        waited_ms >= TTL_MS,
        "the next one began after {waited_ms} ms"
    );
    assert!(
        waited_ms < TTL_MS + 2_500,
        "the next one began after {waited_ms} ms"
    );
}

/// The database's clock steps over the end of one lease, and not of the others: its holder goes on
/// by its own clock until it asks for more.
#[sim::test(nodes = 3, host(Counter), seeds = 12)]
async fn a_database_clock_that_steps_ahead_starts_no_second_singleton(sim: Sim) {
    let (diary, first) = at_work(&sim, 3_000).await;
    let name = NodeId::new(format!("n{first}"));

    // As if the others had just renewed theirs, each for a little longer.
    let ends = sim.store().write("leases", move |c| {
        Box::pin(async move {
            let longer =
                Sql::same("UPDATE nodes SET expires_at = expires_at + 6000 WHERE node <> $1");
            c.execute(&longer, vec![(&name).into()]).await?;
            let ends = Sql::same("SELECT expires_at FROM nodes WHERE node = $1");
            let row = c.query_one(&ends, vec![(&name).into()]).await?;
            row.expect("it is registered").int(0)
        })
    });
    let left_ms = ends.await.expect("the store answers") - sim.database_ms();
    sim.step_database_clock(left_ms + 100);
    sim.advance(30 * SECOND).await;

    let stays = diary.one_at_a_time();
    assert!(stays.len() >= 2, "{stays:?}");
}

/// The answer to a release is lost, the singleton begins again, and then the release arrives.
#[sim::test(nodes = 2, host(Counter), seeds = 8)]
async fn a_release_that_arrives_late_starts_no_second_singleton(sim: Sim) {
    let diary = lives(&sim, Duration::from_millis(4_500));
    sim.advance(5 * SECOND).await;
    let first = runner(&sim, "diarist", None).await.expect("it runs");

    let late = Fault::late(3 * SECOND).only("release shards");
    sim.fault(first, late.until_cleared());
    let rested = sim.run_on(first, |node| async move {
        let name = node.name().clone();
        node.send_to_rest(&name).await.map_err(drop)
    });
    assert!(rested.await.expect("it lives").is_ok());
    sim.advance(8 * SECOND).await;
    sim.clear_faults(first);
    sim.advance(40 * SECOND).await;

    let stays = diary.one_at_a_time();
    let last = stays.last().map(|stay| stay.node.to_string());
    assert_eq!(last, Some(format!("n{}", 1 - first)), "{stays:?}");
}

/// Whoever took the shard first passes it on before the former owner's lease is over.
#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn the_wait_for_a_lease_goes_with_the_shard(sim: Sim) {
    let (diary, first) = at_work(&sim, 1).await;

    sim.freeze(first);
    let declared_ms = sim.database_ms();
    end_lease(&sim, NodeId::new(format!("n{first}")), Incarnation(1)).await;
    sim.advance(2 * SECOND).await;
    let states = states(&sim, "diarist", Some(first)).await;
    let waits = states
        .iter()
        .filter(|(_, state)| *state == SingletonState::Waits);
    let waits: Vec<_> = waits.map(|(node, _)| *node).collect();
    sim.shutdown(waits[0]).await.expect("it stops in order");
    sim.advance(12 * SECOND).await;

    assert_eq!(waits.len(), 1, "{waits:?}");
    let stays = diary.one_at_a_time();
    assert_eq!(stays.len(), 2, "{stays:?}");
    let waited_ms = stays[1].first_ms - declared_ms;
    assert!(
        waited_ms >= TTL_MS,
        "the next one began after {waited_ms} ms"
    );
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_frozen_node_that_thaws_does_nothing_more(sim: Sim) {
    let (diary, first) = at_work(&sim, 200).await;

    let frozen_ms = sim.database_ms();
    sim.freeze(first);
    sim.advance(14 * SECOND).await;
    let second = runner(&sim, "diarist", Some(first)).await;
    sim.thaw(first);
    sim.advance(5 * SECOND).await;

    assert!(second.is_some_and(|second| second != first), "{second:?}");
    let stays = diary.one_at_a_time();
    // It may come back to the first node's next life.
    assert!(stays.len() >= 2, "{stays:?}");
    assert!(stays[0].last_ms <= frozen_ms, "it woke up and went on");
    assert!(!stays[0].ended, "it woke up and ended in order");
}

#[sim::test(nodes = 3, host(Counter), seeds = 8)]
async fn a_node_that_leaves_lets_its_singleton_end_before_the_next_begins(sim: Sim) {
    let diary = lives(&sim, 2 * SECOND);
    sim.advance(5 * SECOND).await;

    for _ in 0..2 {
        let runner = runner(&sim, "diarist", None)
            .await
            .expect("somebody runs it");
        sim.shutdown(runner).await.expect("it stops in order");
        sim.advance(5 * SECOND).await;
    }

    let stays = diary.one_at_a_time();
    assert_eq!(stays.len(), 3, "{stays:?}");
    assert!(stays[0].ended && stays[1].ended, "{stays:?}");
    // Released in order, so nobody waits for a lease.
    let gap_ms = stays[1].first_ms - stays[0].last_ms;
    assert!(gap_ms < 2_500, "the next one began after {gap_ms} ms");
}

/// A run that ignores what it is told must not keep its node, and must not overlap the next one.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_singleton_that_does_not_end_is_dropped_at_the_deadline(sim: Sim) {
    let diary = diarist(&sim, |diary, stay, singleton| async move {
        loop {
            singleton.hosting().clock().sleep(SECOND / 10).await;
            diary.note(stay, &singleton, false);
        }
    });
    sim.advance(5 * SECOND).await;
    let first = runner(&sim, "diarist", None)
        .await
        .expect("somebody runs it");

    let began = sim.now();
    sim.shutdown(first).await.expect("it stops all the same");
    let took = sim.now() - began;
    sim.advance(5 * SECOND).await;

    let stays = diary.one_at_a_time();
    assert_eq!(stays.len(), 2, "{stays:?}");
    assert!(!stays[0].ended);
    assert!((25 * SECOND..40 * SECOND).contains(&took), "{took:?}");
}

/// When the singleton began, by the time since the test did.
#[derive(Clone, Debug, Default)]
struct Begun(Arc<Mutex<Vec<i64>>>);

#[sim::test(host(Counter), seeds = 4)]
async fn a_singleton_that_fails_starts_again_after_longer_and_longer_pauses(sim: Sim) {
    let begun = Begun::default();
    let shared = begun.clone();
    sim.singleton("clumsy", move |singleton| {
        let begun = shared.clone();
        async move {
            let run = {
                let mut begun = begun.0.lock().unwrap_or_else(PoisonError::into_inner);
                begun.push(singleton.hosting().store().now_ms());
                begun.len()
            };
            match run {
                // A good run in between: the pauses begin anew.
                9 => singleton.hosting().clock().sleep(61 * SECOND).await,
                run if run % 2 == 0 => panic!("run {run}"),
                _ => {}
            }
            Err(Failure::new("clumsy", format_args!("run {run}")))
        }
    });

    sim.advance(300 * SECOND).await;
    let cluster = sim.run_on(0, |node| async move { node.cluster() }).await;

    let begun = begun.0.lock().unwrap_or_else(PoisonError::into_inner);
    let gaps: Vec<_> = begun.windows(2).map(|two| two[1] - two[0]).collect();
    let pauses = [1, 2, 4, 8, 16, 32, 60, 60, 61 + 1, 2, 4];
    assert!(gaps.len() >= pauses.len(), "{gaps:?}");
    for (run, (gap, pause)) in gaps.iter().zip(pauses).enumerate() {
        let (ran, pause) = if run == 8 { (61_000, 1) } else { (0, pause) };
        let paused = gap - ran;
        let allowed = pause * 800 - 50..=pause * 1_200 + 50;
        assert!(
            allowed.contains(&paused),
            "pause {run} is {paused} ms: {gaps:?}"
        );
    }
    let all = cluster.expect("it lives").singletons;
    let clumsy = all.iter().find(|it| &*it.name == "clumsy");
    let clumsy = clumsy.expect("registered");
    assert_eq!(clumsy.restarts, begun.len() as u64 - 1);
    assert!(
        clumsy
            .trouble
            .as_ref()
            .is_some_and(|why| why.contains("run"))
    );
}

#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_singleton_that_is_done_runs_again_at_the_next_owner_only(sim: Sim) {
    let diary = diarist(&sim, |diary, stay, singleton| async move {
        diary.note(stay, &singleton, true);
        Ok(())
    });

    sim.advance(100 * SECOND).await;
    let stays = diary.stays();
    let Some(first) = stays.first() else {
        panic!("it never ran");
    };
    let owner = (0..2).find(|node| first.node.as_str() == format!("n{node}"));
    sim.shutdown(owner.expect("a node"))
        .await
        .expect("it stops");
    sim.advance(10 * SECOND).await;

    assert_eq!(stays.len(), 1, "{stays:?}");
    assert_eq!(diary.stays().len(), 2);
}

/// Calls the cluster through its client, as anything does.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_singleton_reaches_entities_and_makes_ids(sim: Sim) {
    sim.singleton("counts", |singleton| async move {
        let id = singleton.snowflake().await?;
        while singleton.pause(SECOND).await {
            singleton
                .entity::<Counter>("a")
                .add(1)
                .key(id.to_string())
                .await?;
        }
        Ok(())
    });

    sim.advance(20 * SECOND).await;

    let counted = sim.entity::<Counter>("a").count().await;
    assert_eq!(counted, Ok(1), "one key, one count");
}
