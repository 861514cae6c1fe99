//! Crashes and bad commits at every point of a run: nothing is lost and nothing is done twice.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::Result;
use actor_workflow::{SagaClient, SagaError};

use super::{Buy, Provider, Stock, end, start, taken};

#[sim::test(host(Buy, Stock), seeds = 8)]
async fn a_crash_between_charge_and_journal_charges_once(sim: Sim) -> Result<()> {
    let provider = Provider::default();
    sim.provide(provider.clone());
    sim.crash_after("charge card");

    let run = sim.start("order-7", Buy::default()).await?;
    sim.advance(Duration::from_secs(60)).await;

    assert_eq!(run.result().await?, "shipped");
    assert_eq!(provider.log().len(), 1);
    assert_eq!(taken(&sim).await, 1);
    Ok(())
}

#[sim::test(host(Buy, Stock), seeds = 8)]
async fn what_a_crash_kept_out_of_the_journal_is_undone_too_when_the_run_is_cancelled(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let run = start(
        &sim,
        "a",
        &Buy {
            slow_ms: 1_000,
            ..Buy::default()
        },
    )
    .await;
    sim.crash_after("charge card");
    sim.advance(Duration::from_millis(1_500)).await;
    let charges = provider.log().len();

    while run.cancel().await.is_err() {
        sim.advance(Duration::from_millis(100)).await;
    }
    let result = end(&run).await;

    assert_eq!(charges, 1, "the charge was made");
    assert_eq!(result, Err(SagaError::Cancelled));
    assert_eq!(taken(&sim).await, 0);
    assert_eq!(
        provider.log().len(),
        2,
        "one charge, one refund: {:?}",
        provider.log()
    );
}

/// Runs a failing and a completing purchase with `fault` hitting one commit after the other, until
/// no commit is left that it could hit.
async fn with_each_commit(sim: &Sim, fault: fn() -> Fault) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    for fails in [false, true] {
        let mut hit = 0;
        for commit in 0.. {
            let before = (taken(sim).await, provider.log().len());
            sim.clear_faults(0);
            sim.fault(0, fault().only("commit").skip(commit));
            let input = Buy {
                fails,
                ..Buy::default()
            };
            let run = start(sim, format!("{fails}-{commit}"), &input).await;
            let result = end(&run).await;
            sim.clear_faults(0);
            let (stock, charges) = (taken(sim).await, provider.log().len());
            if fails {
                assert!(
                    matches!(result, Err(SagaError::Failed(_))),
                    "{result:?} at {commit}"
                );
                assert_eq!(
                    (stock, charges),
                    (before.0, before.1 + 2),
                    "at commit {commit}"
                );
            } else {
                assert_eq!(result, Ok("shipped".to_owned()), "at commit {commit}");
                assert_eq!(
                    (stock, charges),
                    (before.0 + 1, before.1 + 1),
                    "at {commit}"
                );
            }
            hit = commit;
            if commit >= 12 {
                break;
            }
        }
        assert_eq!(hit, 12);
    }
}

#[sim::test(host(Buy, Stock))]
async fn a_crash_before_any_commit_of_a_run_loses_and_doubles_nothing(sim: Sim) {
    with_each_commit(&sim, Fault::crash_before).await;
}

#[sim::test(host(Buy, Stock))]
async fn a_crash_after_any_commit_of_a_run_loses_and_doubles_nothing(sim: Sim) {
    with_each_commit(&sim, Fault::crash_after).await;
}

#[sim::test(host(Buy, Stock))]
async fn a_commit_of_a_run_that_fails_loses_and_doubles_nothing(sim: Sim) {
    with_each_commit(&sim, Fault::fail_before).await;
}

#[sim::test(host(Buy, Stock))]
async fn a_commit_of_a_run_whose_end_is_unknown_loses_and_doubles_nothing(sim: Sim) {
    with_each_commit(&sim, Fault::fail_after).await;
}
