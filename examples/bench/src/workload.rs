//! The workloads: what one operation of each is. Their names are stable.

mod accounts;
mod durable;
mod entity_call;
mod entity_call_remote;
mod failover;
mod handoff;
mod idle;
mod insert_limit;
mod overload;
mod ractor_call;
mod ractor_cluster_call;
mod saga;
mod timers;

use std::{fmt, ops::RangeInclusive, pin::Pin};

use actor_cluster::NodeBuilder;
use actor_core::Result;

use crate::{arguments::Plan, report::Line};

/// The lines a workload ends with.
pub(crate) type Lines<'p> = Pin<Box<dyn Future<Output = Result<Vec<Line>>> + 'p>>;

/// Something to measure.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// The stable name.
    pub(crate) name: &'static str,
    /// What one operation is.
    about: &'static str,
    /// How many nodes it can be run with; the first number is the default.
    pub(crate) nodes: RangeInclusive<u32>,
    /// Runs it once.
    pub(crate) run: fn(&Plan) -> Lines<'_>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:18} {}", self.name, self.about)
    }
}

/// Gives a node the kinds of the workloads that are run with several nodes.
pub(crate) fn host_all(node: NodeBuilder) -> NodeBuilder {
    let node = node.host::<entity_call::Tally>().host::<durable::Account>();
    node.host::<saga::Noop>().host::<saga::FiveSteps>()
}

/// The most nodes on one machine.
const NODES_MAX: u32 = 9;

macro_rules! workloads {
    ($($name:literal, $about:literal, $nodes:expr, $run:path;)*) => {
        /// All workloads.
        pub(crate) const ALL: &[Workload] = &[$(
            Workload {
                name: $name,
                about: $about,
                nodes: $nodes,
                run: |plan| Box::pin($run(plan)),
            },
        )*];
    };
}

workloads! {
    "ractor_call", "a call to one of N bare ractor actors (the floor)", 1..=1, ractor_call::run;
    "entity_call", "a call to one of N volatile entities", 1..=1, entity_call::run;
    "entity_call_by_id", "the same, with the reference made anew for each call", 1..=1, entity_call::by_id;
    "ractor_cluster_call", "one rpc to one of N actors of another process, by bare ractor_cluster", 2..=2, ractor_cluster_call::run;
    "entity_call_remote", "a call to one of N volatile entities of other processes", 2..=NODES_MAX, entity_call_remote::run;
    "insert_limit", "the rows of one keyed durable call, bare, at most C outstanding", 1..=1, insert_limit::bounded;
    "insert_limit_open", "the same rows in batches of any size", 1..=1, insert_limit::open;
    "durable_call", "a keyed call to one of N durable entities, 200 bytes of state", 1..=NODES_MAX, durable::call;
    "durable_call_hot", "the same, all callers on one entity", 1..=NODES_MAX, durable::hot;
    "durable_cast", "a stored cast to one of N durable entities, handled once", 1..=1, durable::cast;
    "timer_fire", "a due timer, of 100 000 due at once; and the lateness of spread ones", 1..=1, timers::run;
    "saga_noop", "a run of a saga without steps, from start to result", 1..=NODES_MAX, saga::noop;
    "saga_5_steps", "a run of a saga with five trivial steps", 1..=NODES_MAX, saga::five_steps;
    "spawn_idle", "an actor or entity that is made and kept, N = 200 000", 1..=1, idle::run;
    "overload", "one of 1 000 000 casts at one slow entity, while others are called", 1..=1, overload::run;
    "failover", "a kill -9 of one of three nodes under load, until all it had answers; and freezes", 3..=NODES_MAX, failover::run;
    "handoff", "a drain of one of three nodes under load, 100 000 entities in memory", 3..=NODES_MAX, handoff::run;
}
