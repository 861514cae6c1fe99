//! The simulator itself, and the least a user expects.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{CallError, Result, client::Invocation, codec::Codec};

use crate::kinds::{Counter, Greeter, Greeting, Tally};

#[sim::test(host(Counter))]
async fn a_count_survives_a_crash(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    assert_eq!(counter.add(2).await, Ok(2));

    sim.crash(0);
    sim.restart(0).await;

    assert_eq!(counter.add(1).await, Ok(3));
}

#[sim::test(host(Tally))]
async fn a_volatile_count_does_not_survive_a_crash(sim: Sim) {
    let tally = sim.entity::<Tally>("a");
    assert_eq!(tally.add(2).await, Ok(2));

    sim.crash(0);
    sim.restart(0).await;

    assert_eq!(tally.add(1).await, Ok(1));
}

#[sim::test(host(Counter), seeds = 3)]
async fn a_test_may_use_the_question_mark_and_calls_by_name(sim: Sim) -> Result<()> {
    sim.entity::<Counter>("a").add(2).await?;

    let call = Invocation::new("counter", "a", "add").args(Codec::Json, br#"{"amount":5}"#.into());
    let sum = sim.client().invoke(call).await?;

    assert_eq!(sum.bytes, b"7");
    Ok(())
}

#[sim::test(host(Greeter))]
async fn nodes_are_given_resources(sim: Sim) {
    sim.provide(Greeting("hello"));

    let greeting = sim.entity::<Greeter>("a").greet("world".into()).await;

    assert_eq!(greeting.as_deref(), Ok("hello, world"));
}

#[sim::test(host(Counter))]
async fn time_passes_by_as_much_as_the_test_says(sim: Sim) {
    let (began, database) = (sim.now(), sim.database_ms());

    sim.advance(Duration::from_secs(3600)).await;

    assert_eq!(sim.now() - began, Duration::from_secs(3600));
    assert_eq!(sim.database_ms() - database, 3_600_000);
}

#[sim::test(host(Tally))]
async fn a_volatile_call_whose_node_dies_ends_with_an_unknown_outcome(sim: Sim) {
    let tally = sim.entity::<Tally>("a");
    tally.add(1).await.expect("the node answers");
    let calling = tokio::spawn(async move { tally.wait(2000).await });
    sim.advance(Duration::from_secs(1)).await;

    sim.crash(0);
    let outcome = calling.await.expect("the call ends");

    assert!(
        matches!(outcome, Err(CallError::UnknownOutcome(_))),
        "{outcome:?}"
    );
}

#[sim::test(host(Counter))]
async fn a_call_to_a_node_that_is_down_ends_at_its_deadline(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the node answers");
    sim.crash(0);
    sim.advance(Duration::from_secs(1)).await;
    let began = sim.now();

    let outcome = counter.add(1).timeout(Duration::from_secs(3)).await;

    assert!(
        matches!(outcome, Err(CallError::Unavailable(_))),
        "{outcome:?}"
    );
    assert_eq!(sim.now() - began, Duration::from_secs(3));
}

#[sim::test(host(Counter))]
async fn a_hung_store_ends_calls_at_their_deadline_and_the_lease_in_time(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the node answers");
    sim.fault(0, Fault::hang().until_cleared());

    let outcome = counter.add(1).timeout(Duration::from_secs(3)).await;
    sim.advance(Duration::from_secs(9)).await;
    sim.clear_faults(0);

    assert_eq!(outcome, Err(CallError::Timeout { started: true }));
    // The lease ran out, so the program ended and was started again.
    let sum = counter.count().timeout(Duration::from_secs(60)).await;
    assert_eq!(sum, Ok(1));
}

#[sim::test(host(Counter))]
async fn a_node_that_stops_in_order_finishes_what_runs(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    let calling = {
        let counter = counter.clone();
        tokio::spawn(async move { counter.add_slowly(1, 2000).await })
    };
    sim.advance(Duration::from_secs(1)).await;

    let stopped = sim.shutdown(0).await.expect("it stops in order");

    assert_eq!(stopped.unfinished, 0);
    assert_eq!(calling.await.expect("the call ends"), Ok(1));
    sim.restart(0).await;
    assert_eq!(counter.count().await, Ok(1));
}
