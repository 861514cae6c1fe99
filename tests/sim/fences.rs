//! What only the fence, the epoch and the order of commits keep out: writes that come too late, and
//! looks at what is not stored yet.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::{CallError, Ctx, Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::kinds::Counter;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Calls `add(1)` inside `node`, without a key and without a network: only the fence can tell that
/// it comes too late.
fn add_inside(sim: &Sim, node: usize) -> tokio::task::JoinHandle<Option<u64>> {
    let sim = sim.clone();
    tokio::spawn(async move {
        let added = sim.run_on(node, |node| async move {
            let counter = node.client().entity::<Counter>("a");
            counter.add(1).timeout(MINUTE).await
        });
        added.await.ok().and_then(Result::ok)
    })
}

/// The owner is frozen while its commit is on its way; its successor only reads, so that versions
/// fit and nothing but the epoch is in the way of the late write.
#[sim::test(nodes = 2, host(Counter), seeds = 8)]
async fn a_frozen_owners_late_write_is_refused(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the owner answers");
    let first = sim.owner::<Counter>("a").expect("somebody owns it");
    sim.fault(first, Fault::slow(Duration::from_millis(60)).only("commit"));

    let adding = add_inside(&sim, first);
    sim.advance(Duration::from_millis(40)).await;
    sim.freeze(first);
    sim.advance(14 * SECOND).await;
    let second = sim.owner::<Counter>("a").expect("somebody took over");
    let read = counter.count().timeout(MINUTE).await;
    sim.thaw(first);
    sim.advance(5 * SECOND).await;
    let late = adding.await.expect("the task ends");
    sim.crash(second);
    sim.advance(15 * SECOND).await;

    assert_ne!(second, first);
    assert_eq!(read, Ok(1));
    assert_eq!(late, None, "nobody was told that it was added");
    assert_eq!(counter.count().timeout(MINUTE).await, Ok(1));
}

/// The answer to a commit is lost, and the commit itself reaches the database after its entity was
/// read again.
#[sim::test(host(Counter), seeds = 8)]
async fn an_unclear_commit_that_arrives_late_is_refused(sim: Sim) {
    let counter = sim.entity::<Counter>("a");
    counter.add(1).await.expect("the owner answers");
    sim.fault(0, Fault::late(2 * SECOND).only("commit"));

    let unclear = sim.run_on(0, |node| async move {
        node.client().entity::<Counter>("a").add(1).await
    });
    let unclear = unclear.await.expect("the node lives");
    let read = counter.count().timeout(MINUTE).await;
    sim.advance(5 * SECOND).await;
    sim.crash(0);
    sim.restart(0).await;

    assert!(
        matches!(unclear, Err(CallError::UnknownOutcome(_))),
        "{unclear:?}"
    );
    assert_eq!(read, Ok(1));
    assert_eq!(counter.count().timeout(MINUTE).await, Ok(1));
}

/// What somebody outside was told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<u64>>>);

/// Counts, and tells the outside.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Teller {
    count: u64,
}

#[handlers]
impl Teller {
    /// Adds and returns the sum; it may run ahead of commits.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }

    /// Tells the sum to somebody outside: it must not be taken back.
    pub async fn tell(&self, ctx: &mut Ctx<Self>) {
        let told = &ctx.resource::<Told>().0;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(self.count);
    }

    /// Returns the sum.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[sim::test(host(Teller), seeds = 8)]
async fn an_async_handler_sees_only_what_is_stored(sim: Sim) {
    let told = Told::default();
    sim.provide(told.clone());
    let teller = sim.entity::<Teller>("a");
    teller.add(1).await.expect("the node answers");
    teller.tell().await.expect("the node answers");
    sim.fault(0, Fault::crash_before().only("commit"));

    let both = sim.run_on(0, |node| async move {
        let teller = node.client().entity::<Teller>("a");
        let (added, told) = tokio::join!(teller.add(1), teller.tell());
        (added.is_ok(), told.is_ok())
    });
    let both = both.await;
    sim.advance(5 * SECOND).await;

    assert!(both.is_err(), "the node died: {both:?}");
    assert_eq!(teller.count().timeout(MINUTE).await, Ok(1));
    let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*told, [1], "the outside knows what was never stored");
}
