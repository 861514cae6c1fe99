//! Waiting runs: long sleeps, finished runs that are kept, steps that never end.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};
use actor_core::{Refusal, store::sql::Sql};
use actor_workflow::{
    SagaClient, SagaError, State,
    overview::{FINISHED_KEPT, Query},
};

use super::{Buy, Provider, Stock, end, start, taken};

// WF-15
#[sim::test(host(Buy, Stock), seeds = 4)]
async fn an_hour_of_sleep_over_a_restart_ends_on_time_and_not_early(sim: Sim) {
    sim.provide(Provider::default());
    let hour = 3_600_000;
    let input = Buy {
        wait_ms: hour,
        ..Buy::default()
    };
    let run = start(&sim, "a", &input).await;
    sim.advance(Duration::from_secs(600)).await;
    assert_eq!(
        run.poll().await.map(|poll| poll.state),
        Ok(State::Suspended)
    );
    let line = sim
        .sagas()
        .runs(Query::of("buy"))
        .await
        .expect("lists")
        .remove(0);

    sim.crash(0);
    sim.advance(Duration::from_secs(60)).await;
    sim.restart(0).await;
    sim.advance(Duration::from_secs(3600 - 700)).await;
    let early = run.poll().await.expect("it answers");
    let result = end(&run).await;

    assert_eq!(early.state, State::Suspended);
    assert_eq!(result, Ok("shipped".to_owned()));
    let wake_at = line.wake_at.expect("it shows when it wakes");
    let late = sim.database_ms() - wake_at;
    assert!((0..200).contains(&late), "{late} ms late");
}

#[sim::test(host(Buy, Stock), seeds = 4)]
async fn a_step_that_never_ends_is_cut_off_half_a_minute_after_cancelling(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let run = start(
        &sim,
        "a",
        &Buy {
            stalls: true,
            ..Buy::default()
        },
    )
    .await;
    sim.advance(Duration::from_secs(10)).await;
    let begun = sim.now();

    run.cancel().await.expect("it is accepted");
    let result = end(&run).await;

    assert_eq!(result, Err(SagaError::Cancelled));
    let took = sim.now() - begun;
    assert!((30..33).contains(&took.as_secs()), "{took:?}");
    assert_eq!(taken(&sim).await, 0);
    assert_eq!(provider.log().len(), 2, "one charge, one refund");
}

/// Moves the ends of all runs into the past: a day of virtual time takes too long.
async fn age(sim: &Sim, by: Duration) {
    let by = i64::try_from(by.as_millis()).expect("it fits");
    let aged = sim.store().write("age", move |connection| {
        Box::pin(async move {
            let older = Sql::same("UPDATE runs SET finished_at = finished_at - $1");
            connection.execute(&older, vec![by.into()]).await
        })
    });
    assert_eq!(aged.await.expect("it is stored"), 1);
}

#[sim::test(host(Buy, Stock))]
async fn a_run_is_kept_for_a_day_after_its_end(sim: Sim) {
    sim.provide(Provider::default());
    let run = start(&sim, "a", &Buy::default()).await;
    end(&run).await.expect("it ships");

    age(&sim, FINISHED_KEPT - Duration::from_secs(600)).await;
    sim.advance(Duration::from_secs(300)).await;
    let kept = run.poll().await.map(|poll| poll.state);
    sim.advance(Duration::from_secs(600)).await;
    let gone = run.poll().await;

    assert_eq!(kept, Ok(State::Completed));
    assert!(matches!(gone, Err(Refusal::NotHosted(_))), "{gone:?}");
}
