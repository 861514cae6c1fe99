//! Everything goes wrong at once: clients go on calling while nodes crash, hang and leave, while
//! the network splits and their database loses answers. What was promised must hold all the same.
//!
//! The promises are those of ARCHITECTURE's "What always holds"; `promises` checks them.

mod clients;
mod faults;
mod history;
pub(crate) mod kinds;
mod promises;

use std::time::Duration;

use actor_cluster::sim::{self, Sim};

use self::{
    clients::Clients,
    faults::{Faults, Witnesses},
    kinds::{Ledger, Register, Relay, Transfer},
};

/// Short, so that a day sees several of them.
const LEASE: Duration = Duration::from_secs(3);

/// Faults of one day.
const FAULTS: u32 = 7;

/// How long a cluster may take to be as it was, once nothing goes wrong any more: a lease, or the
/// longest timer of a client, and whatever waits for its next poll.
const REST: Duration = Duration::from_secs(11);

async fn a_day(sim: &Sim, witnesses: Witnesses) {
    sim.lease_ttl(LEASE);
    let clients = Clients::start(sim, witnesses == Witnesses::Honest);
    let mut faults = Faults::new(sim, witnesses);
    for _ in 0..FAULTS {
        faults.one_more(sim);
        let pause = 100 + sim.rng().below(2_500);
        sim.advance(Duration::from_millis(pause)).await;
    }
    let back = faults.end(sim).await;
    let told = clients.stop().await;
    sim.advance(REST + back).await;

    promises::check(sim, told).await;
}

/// The same day for whoever wants to see it twice.
pub(crate) async fn an_honest_day(sim: &Sim) {
    a_day(sim, Witnesses::Honest).await;
}

/// What its nodes host.
pub(crate) type Hosted = (Register, Ledger, Relay, Transfer);

#[sim::test(nodes = 5, host(Register, Ledger, Relay, Transfer), seeds = 100)]
async fn whatever_fails_what_was_promised_holds(sim: Sim) {
    a_day(&sim, Witnesses::Honest).await;
}

/// Live nodes are taken for dead: their reads may be old until they find out, their writes never
/// count.
#[sim::test(nodes = 5, host(Register, Ledger, Relay, Transfer), seeds = 100)]
async fn live_nodes_that_are_taken_for_dead_write_nothing(sim: Sim) {
    a_day(&sim, Witnesses::False).await;
}
