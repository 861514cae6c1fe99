//! One key, one effect: whether it came as a call or as a cast, and in which order.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use actor_core::{CallError, Ctx, Entity, handlers, store::TaskExecutor};
use actor_tests::{
    fault::FaultExecutor,
    hosting::{MEMORY, client, host_with},
};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{
    durable::life,
    kinds::{Account, AccountRef, Counter, CounterRef, Gate, SOON},
};

async fn settled(account: &AccountRef) -> i64 {
    account.balance().await.expect("it answers")
}

#[tokio::test]
async fn a_cast_and_a_call_with_the_same_key_count_once() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;

    let first = client.entity::<Account>("cast-first");
    first.deposit(5).key("k").cast().await.expect("stored");
    let called = first.deposit(5).key("k").await;
    let second = client.entity::<Account>("call-first");
    assert_eq!(second.deposit(5).key("k").await, Ok(5));
    second.deposit(5).key("k").cast().await.expect("stored");
    second.deposit(1).await.expect("it goes on");

    assert_eq!(called, Ok(5));
    assert_eq!(settled(&first).await, 5);
    assert_eq!(settled(&second).await, 6);
}

#[tokio::test]
async fn casts_and_calls_at_the_same_time_count_once_and_hold_nobody_up() {
    let folder = TempDir::new().expect("a folder");
    let (_hosting, client) = life(folder.path()).await;
    let account = client.entity::<Account>("a");
    let tasks: Vec<_> = (0..8)
        .flat_map(|_| [true, false])
        .map(|cast| {
            let account = account.clone();
            tokio::spawn(async move {
                if cast {
                    account.deposit(5).key("k").cast().await.expect("stored");
                } else {
                    account.deposit(5).key("k").await.expect("answered");
                }
            })
        })
        .collect();

    for task in tasks {
        task.await.expect("it ends");
    }

    assert_eq!(account.deposit(1).await, Ok(6));
    assert_eq!(settled(&account).await, 6);
}

/// Returns a counter whose `wait` waits at the gate.
async fn gated_counter() -> (Gate, CounterRef) {
    let gate = Gate::default();
    let resource = gate.clone();
    let hosting = host_with::<(Counter,)>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(resource);
    });
    (gate, client(&hosting.await).entity::<Counter>("a"))
}

// Memory is bounded: a mailbox of three, and as many who wait for what is in it.
#[tokio::test]
async fn repeats_of_a_call_in_flight_are_bounded_and_those_given_up_do_not_count() {
    let (gate, counter) = gated_counter().await;
    let repeat = || counter.wait().key("k").timeout(SOON).into_future();
    let mut first = repeat();
    assert!((&mut first).now_or_never().is_none(), "it runs");
    gate.entered().await;

    let given_up = (0..5000).filter(|_| repeat().now_or_never().is_some());
    let refused_given_up = given_up.count();
    let mut waiting: Vec<_> = (0..5000).map(|_| repeat()).collect();
    let answers: Vec<_> = waiting.iter_mut().map(|it| it.now_or_never()).collect();
    gate.open(1);
    let mut counts = vec![first.await];
    for (call, answer) in waiting.into_iter().zip(answers) {
        counts.push(match answer {
            Some(answer) => answer,
            None => call.await,
        });
    }

    let refused = |count: &&Result<u64, _>| matches!(count, Err(CallError::Overloaded { .. }));
    let refused = counts.iter().filter(refused).count();
    let answered = counts.iter().filter(|count| **count == Ok(1)).count();
    assert_eq!((refused_given_up, answered, refused), (0, 1 + 3, 4997));
    assert_eq!(counter.get().await, Ok(1));
}

// Dropping a call's future abandons the answer, never the work.
#[tokio::test]
async fn a_call_that_is_taken_back_still_runs_for_a_repeat_that_was_abandoned() {
    let (gate, counter) = gated_counter().await;
    let mut running = counter.wait().timeout(SOON).into_future();
    assert!((&mut running).now_or_never().is_none());
    gate.entered().await;
    let add = || counter.add(1).key("k");
    let mut first = add().timeout(Duration::from_millis(50)).into_future();
    assert!((&mut first).now_or_never().is_none());
    // More than may wait: those that were abandoned make room.
    for _ in 0..8 {
        let repeat = add().timeout(SOON).into_future();
        assert!(repeat.now_or_never().is_none());
    }

    let first = first.await;
    gate.open(1);
    let waited = running.await;

    assert!(matches!(first, Err(CallError::Timeout { .. })), "{first:?}");
    assert_eq!(waited, Ok(1));
    assert_eq!(counter.get().await, Ok(2));
}

/// Pays one and another in turn.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Payer {
    paid: u32,
}

#[handlers]
impl Payer {
    /// Pays whoever is next, as often as it says; returns how often it paid.
    pub async fn pay(&mut self, amount: i64, ctx: &mut Ctx<Self>) -> u32 {
        let next = ["left", "right"][self.paid as usize % 2];
        let paid = ctx.entity::<Account>(next).deposit(amount).await;
        paid.expect("the account answers");
        self.paid += 1;
        self.paid
    }
}

/// What the first run asked others is in their state, so a repeat that finds another state of its
/// own must not ask anybody anything.
#[tokio::test]
async fn a_repeat_asks_nobody_though_its_handler_would_decide_otherwise_now() {
    let hosting = host_with::<(Payer, Account)>(MEMORY, Arc::new(TaskExecutor), |_| {}).await;
    let client = client(&hosting);
    let payer = client.entity::<Payer>("p");

    assert_eq!(payer.pay(1).key("k").timeout(SOON).await, Ok(1));
    assert_eq!(payer.pay(1).key("k").timeout(SOON).await, Ok(1));
    payer.pay(1).key("k").cast().await.expect("stored");
    let reused = payer.pay(5).key("k").timeout(SOON).await;

    assert_eq!(reused, Err(CallError::KeyReused));
    assert_eq!(settled(&client.entity::<Account>("left")).await, 1);
    assert_eq!(settled(&client.entity::<Account>("right")).await, 0);
    assert_eq!(payer.pay(1).timeout(SOON).await, Ok(2));
    assert_eq!(settled(&client.entity::<Account>("right")).await, 1);
}

/// Whether it was done is read from the database, and that takes time: what is another node's by
/// then is not begun.
#[tokio::test]
async fn a_call_whose_shard_goes_while_its_past_is_read_does_not_begin() {
    let fault = Arc::<FaultExecutor>::default();
    let hosting = host_with::<(Payer, Account)>(MEMORY, fault.clone(), |_| {}).await;
    let payer = client(&hosting).entity::<Payer>("p");
    let reading = fault.hold("stored reply");
    let paying = payer.pay(1).key("k").timeout(Duration::from_millis(200));

    let (paid, ()) = tokio::join!(paying, async {
        fault.reached("stored reply", 1).await;
        hosting.shards().revoke(hosting.shard_of("payer", "p"));
        drop(reading);
    });

    assert!(paid.is_err(), "{paid:?}");
    let left = client(&hosting).entity::<Account>("left");
    assert_eq!(settled(&left).await, 0);
}
