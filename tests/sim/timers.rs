//! Stored timers: never early, never lost.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{Ctx, Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::kinds::Alarm;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[sim::test(host(Alarm), seeds = 8)]
async fn a_timer_rings_at_its_time_and_never_early(sim: Sim) {
    let alarm = sim.entity::<Alarm>("a");
    for after in [50, 900, 3_000, 30_000] {
        alarm.set(after).await.expect("set");
    }

    sim.advance(seconds(31)).await;

    let rung = alarm.rung().await.expect("read");
    assert_eq!(rung.len(), 4);
    for (due, at) in rung {
        assert!(at >= due, "rang {} ms early", due - at);
        assert!(at - due <= 50, "rang {} ms late", at - due);
    }
}

#[sim::test(host(Alarm), seeds = 8)]
async fn a_timer_survives_a_crash_and_rings_once(sim: Sim) {
    let alarm = sim.entity::<Alarm>("a");
    alarm.set(20_000).await.expect("set");

    sim.advance(seconds(1)).await;
    sim.crash(0);
    sim.advance(seconds(10)).await;
    sim.restart(0).await;
    sim.advance(seconds(20)).await;

    let rung = alarm.rung().await.expect("read");
    assert_eq!(rung.len(), 1, "{rung:?}");
    assert!(rung[0].1 >= rung[0].0);
    assert!(rung[0].1 - rung[0].0 <= 50, "{rung:?}");
}

#[sim::test(host(Alarm))]
async fn a_timer_that_became_due_while_its_node_was_down_rings_after_the_restart(sim: Sim) {
    let alarm = sim.entity::<Alarm>("a");
    alarm.set(600).await.expect("set");

    sim.crash(0);
    sim.advance(seconds(30)).await;
    sim.restart(0).await;
    sim.advance(seconds(7)).await;

    assert_eq!(alarm.rung().await.expect("read").len(), 1);
}

#[sim::test(host(Alarm), seeds = 8)]
async fn due_timers_whose_commit_failed_ring_again_at_once_and_count_once(sim: Sim) {
    let alarm = sim.entity::<Alarm>("a");
    for after in [2_000, 2_001, 2_002] {
        alarm.set(after).await.expect("set");
    }
    sim.advance(seconds(1)).await;

    // The first time nothing is stored, the second time nobody knows.
    sim.fault(0, Fault::fail_before().only("commit"));
    sim.fault(0, Fault::fail_after().only("commit").skip(1));
    sim.advance(seconds(4)).await;

    let mut due: Vec<_> = alarm.rung().await.expect("read");
    due.sort_unstable();
    let rung = due.len();
    due.dedup_by_key(|(due, _)| *due);
    assert_eq!((rung, due.len()), (3, 3), "{due:?}");
}

/// How often the handlers of all [`Pupil`]s ran, whether that was stored or not.
static RAN: AtomicU64 = AtomicU64::new(0);

/// Works through what it is set, now and later.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Pupil {
    works: u64,
}

#[handlers]
impl Pupil {
    /// Sets itself this many works, one every ten milliseconds.
    pub async fn set(&mut self, works: u64, ctx: &mut Ctx<Self>) {
        let me = ctx.entity::<Pupil>(ctx.id());
        for number in 0..works {
            let later = me.work().after(Duration::from_millis(10 * number));
            later.await.expect("it becomes part of the commit");
        }
    }

    /// Works.
    pub fn work(&mut self) {
        RAN.fetch_add(1, Relaxed);
        self.works += 1;
    }

    /// Returns how often it worked.
    pub fn works(&self) -> u64 {
        self.works
    }
}

/// What a look at the store found may be done before it is handed on.
#[sim::test(host(Pupil), seeds = 4)]
async fn what_is_done_while_it_is_being_read_does_not_run_again(sim: Sim) {
    RAN.store(0, Relaxed);
    for label in ["ready messages", "next timers"] {
        let slow = Fault::slow_answer(Duration::from_millis(800)).only(label);
        sim.fault(0, slow.until_cleared());
    }

    for id in 0..2_u64 {
        sim.entity::<Pupil>(id).set(600).await.expect("set");
    }
    sim.advance(seconds(8)).await;

    for id in 0..2_u64 {
        assert_eq!(sim.entity::<Pupil>(id).works().await.expect("read"), 600);
    }
    assert_eq!(RAN.load(Relaxed), 1_200);
}
