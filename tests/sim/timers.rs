//! Stored timers: never early, never lost.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};

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
