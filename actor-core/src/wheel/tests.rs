//! Alarms in time and in order, and their names.

use std::sync::{Arc, atomic::AtomicU32};

use super::*;

/// Lets this many milliseconds pass, and the runner act on them.
async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
    tokio::task::yield_now().await;
}

#[tokio::test(start_paused = true)]
async fn alarms_ring_in_time_and_not_early_and_cancelled_ones_never() {
    let clock = Clock;
    let wheel = Arc::new(Wheel::new(clock));
    let runner = tokio::spawn({
        let wheel = wheel.clone();
        async move { wheel.run().await }
    });
    let rung = Arc::new(AtomicU32::new(0));
    let alarm = |weight| {
        let rung = rung.clone();
        Alarm::Run(Box::new(move || {
            rung.fetch_add(weight, Ordering::SeqCst);
        }))
    };

    wheel.set(clock.now() + Duration::from_millis(25), alarm(1));
    let cancelled = wheel.set(clock.now() + Duration::from_millis(25), alarm(10));
    wheel.set(clock.now() + Duration::from_millis(5), alarm(100));
    wheel.cancel(cancelled);

    pass(11).await;
    assert_eq!(rung.load(Ordering::SeqCst), 100);
    pass(13).await;
    assert_eq!(rung.load(Ordering::SeqCst), 100, "24 ms: not before 25 ms");
    pass(10).await;
    assert_eq!(rung.load(Ordering::SeqCst), 101);
    runner.abort();
}

#[tokio::test(start_paused = true)]
async fn a_freed_entry_is_not_cancelled_under_its_old_name() {
    let wheel = Wheel::new(Clock);
    let at = Clock.now() + Duration::from_secs(1);
    let first = wheel.set(at, Alarm::Wake(Waker::noop().clone()));
    wheel.cancel(first);
    let names: Vec<_> = (0..PARTS)
        .map(|_| wheel.set(at, Alarm::Wake(Waker::noop().clone())))
        .collect();

    wheel.cancel(first);

    assert!(names.into_iter().all(|id| wheel.rewake(id, Waker::noop())));
}

/// Two years: more ticks than 32 bits count.
#[test]
fn a_node_that_runs_for_years_sleeps_until_its_alarms() {
    let wheel = Wheel::new(Clock);
    let at = wheel.start + Duration::from_secs(2 * 365 * 24 * 3600);

    let sleeps_until = wheel.end_of(wheel.tick_after(at));

    assert_eq!(sleeps_until, at);
}

#[test]
fn alarms_that_rang_or_were_taken_back_are_not_counted() {
    let wheel = Wheel::new(Clock);
    let alarm = || Alarm::Wake(Waker::noop().clone());
    let now = Clock.now();
    let kept: Vec<_> = (1..=20)
        .map(|seconds| wheel.set(now + Duration::from_secs(seconds), alarm()))
        .collect();
    let set = wheel.alarms();

    wheel.cancel(kept[19]);
    wheel.ring(wheel.tick_after(now + Duration::from_secs(5)));

    assert_eq!((set, wheel.alarms()), (20, 14));
}

#[test]
fn alarms_ring_in_the_order_of_their_ticks_whatever_turn_they_are_in() {
    let mut part = Part::default();
    let rung = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut rng = 7_u64;
    let mut ticks: Vec<u64> = (0..2000)
        .map(|_| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (rng >> 33) % (5 * TURN)
        })
        .collect();
    let mut names = Vec::new();
    for &tick in &ticks {
        let rung = rung.clone();
        let alarm = Alarm::Run(Box::new(move || rung.lock().expect("whole").push(tick)));
        let (entry, generation) = part.insert(tick, alarm);
        names.push(AlarmId {
            part: 0,
            entry,
            generation,
        });
    }
    for (index, name) in names.into_iter().enumerate() {
        if index % 3 == 0 {
            assert!(part.remove(name).is_some());
            assert!(part.remove(name).is_none(), "it is gone");
        }
    }
    let mut index = 0;
    ticks.retain(|_| {
        index += 1;
        (index - 1) % 3 != 0
    });
    ticks.sort_unstable();

    for now in (0..=5 * TURN).step_by(7) {
        while let Some(alarm) = part.pop_due(now) {
            if let Alarm::Run(run) = alarm {
                run();
            }
        }
        assert_eq!(
            part.earliest(),
            ticks.iter().copied().find(|tick| *tick > now)
        );
    }

    let mut rung = rung.lock().expect("whole").clone();
    rung.sort_unstable();
    assert_eq!(rung, ticks, "each rang once");
    assert_eq!(part.near_count, 0);
}
