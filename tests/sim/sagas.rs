//! Sagas on virtual time: crashes, bad stores, moves, long waits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Options, Sim};
use actor_core::{Entity, Failure, Refusal, Result, clock::Clock, handlers, store::sql::Sql};
use actor_workflow::{
    Run, Saga, SagaClient, SagaError, SagaRef, State, Workflow,
    overview::{FINISHED_KEPT, Query},
};
use serde::{Deserialize, Serialize};

/// Payments as an outside provider sees them: one charge a key.
#[derive(Clone, Debug, Default)]
struct Provider(Arc<Mutex<Vec<String>>>);

impl Provider {
    fn log(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// Does something once a key.
    fn once(&self, line: String) {
        if !self.log().contains(&line) {
            self.note(line);
        }
    }
}

/// A stock that must never lose or gain anything by a repeat.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Stock {
    taken: i64,
}

#[handlers]
impl Stock {
    pub fn take(&mut self) -> i64 {
        self.taken += 1;
        self.taken
    }

    pub fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub fn taken(&self) -> i64 {
        self.taken
    }
}

/// Takes from the stock, charges, waits, ships.
#[derive(Clone, Debug, Default, Workflow, Serialize, Deserialize)]
#[workflow(output = String)]
pub(crate) struct Buy {
    wait_ms: u64,
    /// The work in a step takes this long.
    slow_ms: u64,
    /// Nothing can be shipped.
    fails: bool,
    /// The last step never ends.
    stalls: bool,
}

impl Run for Buy {
    async fn run(&self, saga: &mut Saga) -> Result<String> {
        saga.step("reserve stock", |step| async move {
            step.entity::<Stock>("tea").take().await
        })
        .compensate(|_, step| async move { step.entity::<Stock>("tea").give_back().await })
        .await?;
        let slow = Duration::from_millis(self.slow_ms);
        saga.step("charge card", |step| async move {
            Clock.sleep_until(Clock.now() + slow).await;
            step.resource::<Provider>()
                .once(format!("charge {}", step.key()));
            Ok::<_, Failure>(step.key().to_string())
        })
        .compensate(|charge, step| async move {
            step.resource::<Provider>().once(format!("refund {charge}"));
            Ok::<_, Failure>(())
        })
        .await?;
        saga.sleep(Duration::from_millis(self.wait_ms)).await;
        saga.step("ship", |_| async move {
            if self.stalls {
                std::future::pending::<()>().await;
            }
            match self.fails {
                true => Err(Failure::fatal("no_van", "all vans are out")),
                false => Ok("shipped".to_owned()),
            }
        })
        .await
    }
}

/// Starts a run, whatever happens to the node that is asked.
async fn start(sim: &Sim, id: impl ToString, input: &Buy) -> SagaRef<Buy> {
    for _ in 0..100 {
        match sim.start(id.to_string(), input.clone()).await {
            Ok(run) => return run,
            Err(refusal) => sim.note(format_args!("start again: {refusal}")),
        }
        sim.advance(Duration::from_millis(300)).await;
    }
    panic!("it does not start");
}

/// Waits for the end of a run, whatever happens to the node that is asked.
async fn end(run: &SagaRef<Buy>) -> Result<String, SagaError> {
    for _ in 0..100 {
        match run.result().await {
            Err(SagaError::Refused(_)) => {}
            other => return other,
        }
    }
    panic!("it does not answer");
}

async fn taken(sim: &Sim) -> i64 {
    let stock = sim.entity::<Stock>("tea");
    let taken = stock.taken().timeout(Duration::from_secs(60)).await;
    taken.expect("it answers")
}

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

/// Returns the node that owns a run.
async fn owner(sim: &Sim, id: &'static str) -> usize {
    for node in 0..sim.nodes() {
        let owns = sim.run_on(node, move |node| async move {
            let hosting = node.client().hosting().clone();
            hosting.epoch(hosting.shard_of("buy", id)).is_ok()
        });
        if owns.await.unwrap_or(false) {
            return node;
        }
    }
    panic!("nobody owns it");
}

// WF-11, WF-13
#[sim::test(nodes = 3, host(Buy, Stock), seeds = 4)]
async fn a_run_moves_to_another_node_when_its_own_dies(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let input = Buy {
        wait_ms: 5_000,
        fails: true,
        ..Buy::default()
    };
    let run = start(&sim, "a", &input).await;
    sim.advance(Duration::from_secs(2)).await;

    sim.crash(owner(&sim, "a").await);

    let Err(SagaError::Failed(failure)) = end(&run).await else {
        panic!("it fails");
    };
    assert_eq!(failure.kind, "no_van");
    assert_eq!(taken(&sim).await, 0);
    assert_eq!(provider.log().len(), 2, "one charge, one refund");
}

#[sim::test(nodes = 2, host(Buy, Stock), seeds = 4)]
async fn a_step_waits_for_an_entity_whose_node_died_instead_of_failing(sim: Sim) {
    sim.provide(Provider::default());
    taken(&sim).await;
    let stock = sim.owner::<Stock>("tea").expect("somebody owns it");
    let mut id = None;
    for candidate in ["a", "b", "c", "d", "e", "f"] {
        if owner(&sim, candidate).await != stock {
            id = Some(candidate);
            break;
        }
    }

    sim.crash(stock);
    let run = start(&sim, id.expect("one is on the other node"), &Buy::default()).await;
    let result = end(&run).await;

    assert_eq!(result, Ok("shipped".to_owned()), "the step had one attempt");
    assert_eq!(taken(&sim).await, 1);
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

#[sim::test(host(Buy, Stock), seeds = 4)]
async fn a_draining_node_lets_the_running_step_end_and_the_next_life_goes_on(sim: Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let run = start(
        &sim,
        "a",
        &Buy {
            slow_ms: 3_000,
            ..Buy::default()
        },
    )
    .await;
    sim.advance(Duration::from_secs(1)).await;

    sim.shutdown(0).await.expect("it stops in order");
    let charges = provider.log().len();
    sim.restart(0).await;

    assert_eq!(charges, 1, "the step ended before the node did");
    let before = sim.now();
    assert_eq!(end(&run).await, Ok("shipped".to_owned()));
    assert!(
        sim.now() - before < Duration::from_secs(3),
        "the step did not run again"
    );
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

/// Many purchases among crashes, freezes and a bad store.
async fn a_bad_day(sim: &Sim) {
    let provider = Provider::default();
    sim.provide(provider.clone());
    let rng = sim.rng().clone();
    for node in 0..sim.nodes() {
        sim.fault(node, Fault::fail_after().chance(2).until_cleared());
        sim.fault(node, Fault::fail_before().chance(2).until_cleared());
        sim.fault(node, Fault::crash_after().chance(1).until_cleared());
    }
    let mut runs = Vec::new();
    for round in 0..15 {
        let input = Buy {
            wait_ms: rng.below(4_000),
            slow_ms: rng.below(800),
            fails: rng.below(2) == 0,
            stalls: false,
        };
        runs.push((input.fails, start(sim, round, &input).await));
        if rng.below(4) == 0 {
            let cancelled = runs[rng.below(runs.len() as u64) as usize].1.cancel().await;
            sim.note(format_args!("cancel: {cancelled:?}"));
        }
        let node = rng.below(sim.nodes() as u64) as usize;
        match rng.below(6) {
            0 => sim.crash(node),
            1 => sim.freeze(node),
            _ => {}
        }
        sim.advance(Duration::from_millis(rng.below(1_500))).await;
        sim.thaw(node);
        if !sim.is_up(node) {
            sim.restart(node).await;
        }
    }
    for node in 0..sim.nodes() {
        sim.clear_faults(node);
    }
    let mut shipped = 0;
    for (fails, run) in &runs {
        match end(run).await {
            Ok(_) if !fails => shipped += 1,
            Err(SagaError::Cancelled) => {}
            Err(SagaError::Failed(failure)) if *fails && failure.kind == "no_van" => {}
            other => panic!("{:?} came to {other:?}", run.id()),
        }
    }
    assert_eq!(taken(sim).await, shipped);
    let log = provider.log();
    let refunds = log.iter().filter(|line| line.starts_with("refund")).count();
    assert_eq!(
        (log.len() - refunds) as i64 - refunds as i64,
        shipped,
        "{log:?}"
    );
}

#[sim::test(host(Buy, Stock), seeds = 12)]
async fn whatever_happens_to_one_node_every_run_ships_or_leaves_no_trace(sim: Sim) {
    a_bad_day(&sim).await;
}

#[sim::test(nodes = 3, host(Buy, Stock), seeds = 12)]
async fn whatever_happens_to_three_nodes_every_run_ships_or_leaves_no_trace(sim: Sim) {
    a_bad_day(&sim).await;
}

#[test]
fn the_same_seed_gives_the_same_trace_with_sagas_too() {
    let hashes = |_| {
        let hashes = Arc::new(Mutex::new(Vec::new()));
        let options = Options {
            name: "sim::sagas",
            nodes: 2,
            seeds: 3,
            host: <(Buy, Stock) as sim::__private::Component>::install,
        };
        let seen = hashes.clone();
        sim::__private::run(options, move |sim| {
            let seen = seen.clone();
            Box::pin(async move {
                a_bad_day(&sim).await;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(sim.trace_hash());
                Ok(())
            })
        });

        hashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    let [first, second] = [1, 2].map(hashes);

    assert_eq!(first, second);
    assert_eq!(first.len(), 3);
}
