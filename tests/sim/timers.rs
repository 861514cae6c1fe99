//! Stored timers: never early, never lost.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};

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
    alarm.set(2_000).await.expect("set");

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
