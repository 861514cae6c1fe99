//! Whole clusters in one thread on virtual time, for tests.
//!
//! [`test`](macro@test) makes a test of an `async fn` that takes a [`Sim`]. Nodes run the real code
//! on the real SQLite store; time, latencies, randomness and faults belong to the simulation, so a
//! seed repeats a run exactly and a minute costs milliseconds. `docs/testing.md` is the guide.
//!
//! Inside: each node is a paused current-thread runtime, and so is the test's body. One thread
//! steps them (`world`) and carries the bytes of their links (`wires`), which are the links of
//! production on other sockets. A store call is one closure that runs while that thread waits
//! (`store`).

mod control;
mod fault;
mod harness;
mod machine;
mod network;
mod owners;
mod probe;
mod shared;
mod sockets;
mod store;
mod trace;
mod traffic;
mod weather;
mod wires;
mod world;

pub use actor_core_macros::sim_test as test;

pub use self::{
    control::Sim,
    fault::Fault,
    harness::Options,
    network::{Broken, Undelivered},
    traffic::Traffic,
};

/// What the macro's output names.
#[doc(hidden)]
pub mod __private {
    pub use actor_core::Component;

    pub use super::harness::{Ended, finish, run};
}
