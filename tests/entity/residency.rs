//! The bound on activations in memory.

use std::sync::Arc;

use actor_core::{CallError, Client, Entity, handlers, hosting::Hosting, store::TaskExecutor};
use actor_tests::hosting::{MEMORY, client, host_with};

use super::kinds::{Account, Counter, Gate, SOON};

/// Stays in memory for minutes unless somebody needs its place.
#[derive(Debug, Default, Entity)]
struct Guest;

#[handlers]
impl Guest {
    pub fn greet(&self) -> u64 {
        1
    }
}

async fn host(cap: usize, gate: &Gate) -> (Arc<Hosting>, Client) {
    let gate = gate.clone();
    let executor = Arc::new(TaskExecutor);
    let hosting = host_with::<(Counter, Account, Guest)>(MEMORY, executor, |config| {
        config.resources.insert(gate);
        config.residents_max = cap;
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client)
}

fn resident(hosting: &Hosting) -> usize {
    hosting.kinds().map(|kind| kind.stats().resident).sum()
}

// RES-1
#[tokio::test]
async fn idle_entities_leave_for_new_ones_and_durable_state_comes_back() {
    let (hosting, client) = host(3, &Gate::default()).await;

    for id in 0..20 {
        assert_eq!(client.entity::<Account>(id).deposit(id).await, Ok(id));
        assert!(resident(&hosting) <= 3);
    }

    for id in 0..20 {
        assert_eq!(client.entity::<Account>(id).balance().await, Ok(id));
    }
}

// RES-2 (first half)
#[tokio::test]
async fn a_call_to_a_new_entity_is_refused_when_all_are_busy() {
    let gate = Gate::default();
    let (_hosting, client) = host(2, &gate).await;
    for id in ["a", "b"] {
        client
            .entity::<Counter>(id)
            .wait()
            .cast()
            .await
            .expect("room");
        gate.entered().await;
    }

    let refused = client.entity::<Counter>("c").add(1).await;

    assert!(
        matches!(refused, Err(CallError::Overloaded { .. })),
        "{refused:?}"
    );
    gate.open(2);
}

// RES-2 (second half), RES-3, RES-4, RES-10: stored messages wait in SQL; busy entities get theirs
#[tokio::test]
async fn stored_messages_wait_for_room_and_need_no_poll_to_find_it() {
    let gate = Gate::default();
    let (hosting, client) = host(2, &gate).await;
    for id in ["a", "b"] {
        client
            .entity::<Account>(id)
            .wait()
            .cast()
            .await
            .expect("stored");
        gate.entered().await;
    }
    for id in 0..8 {
        client
            .entity::<Account>(format!("new-{id}"))
            .deposit(1)
            .cast()
            .await
            .expect("stored");
    }
    client
        .entity::<Account>("a")
        .deposit(5)
        .cast()
        .await
        .expect("stored");
    let before = hosting.now();

    gate.open(2);

    assert_eq!(
        client.entity::<Account>("a").balance().timeout(SOON).await,
        Ok(6)
    );
    for id in 0..8 {
        let account = client.entity::<Account>(format!("new-{id}"));
        let mut balance = account.balance().timeout(SOON).await;
        while matches!(balance, Err(CallError::Overloaded { .. })) {
            tokio::task::yield_now().await;
            balance = account.balance().timeout(SOON).await;
        }
        assert_eq!(balance, Ok(1));
    }
    assert!(
        (hosting.now() - before).as_secs() < 4,
        "the poll would have taken longer"
    );
}

// RES-8
#[tokio::test]
async fn without_a_bound_nothing_leaves() {
    let (hosting, client) = host(usize::MAX, &Gate::default()).await;

    for id in 0..200 {
        client.entity::<Counter>(id).add(1).await.expect("counts");
    }

    assert_eq!(resident(&hosting), 200);
}

#[tokio::test]
async fn refused_activations_do_not_each_look_through_all_there_are() {
    const CAP: usize = 2000;
    let gate = Gate::default();
    let (hosting, client) = host(CAP, &gate).await;
    for id in 0..CAP {
        let busy = client.entity::<Counter>(id);
        busy.wait().cast().await.expect("room");
    }
    let before = (hosting.now(), hosting.room_searches());

    for id in 0..1000 {
        let refused = client.entity::<Guest>(id).greet().await;
        assert!(
            matches!(refused, Err(CallError::Overloaded { .. })),
            "{refused:?}"
        );
    }

    let searches = hosting.room_searches() - before.1;
    let most = (hosting.now() - before.0).as_millis() / 100 + 2;
    assert!(u128::from(searches) <= most, "{searches} of {most}");
    gate.open(CAP);
}

#[tokio::test]
async fn who_becomes_idle_makes_room_at_once() {
    let gate = Gate::default();
    let (hosting, client) = host(2, &gate).await;
    let ids = ["a", "b"].map(|id| client.entity::<Counter>(id));
    for counter in &ids {
        counter.wait().cast().await.expect("room");
    }
    for round in 0..50 {
        let refused = client.entity::<Guest>(round).greet().await;
        assert!(matches!(refused, Err(CallError::Overloaded { .. })));
    }
    let searches = hosting.room_searches();

    gate.open(1);
    let count = ids[0].get().timeout(SOON).await;
    let greeted = client.entity::<Guest>("new").greet().await;

    assert_eq!((count, greeted), (Ok(1), Ok(1)));
    assert_eq!(hosting.room_searches() - searches, 1);
    gate.open(1);
}

#[tokio::test]
async fn who_left_memory_leaves_no_alarm_behind() {
    let (hosting, client) = host(10, &Gate::default()).await;

    for id in 0..10_000 {
        assert_eq!(client.entity::<Guest>(id).greet().await, Ok(1));
    }

    let alarms = hosting.wheel().alarms();
    assert!(alarms < 100, "{alarms} alarms for {}", resident(&hosting));
}
