//! The workloads: what one operation of each is. Their names are stable.

mod durable;
mod entity_call;
mod idle;
mod insert_limit;
mod overload;
mod ractor_call;
mod saga;
mod timers;

use std::{fmt, pin::Pin};

use actor_core::Result;

use crate::{arguments::Plan, report::Line};

/// The lines a workload ends with.
pub(crate) type Lines<'p> = Pin<Box<dyn Future<Output = Result<Vec<Line>>> + 'p>>;

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// The stable name.
    pub(crate) name: &'static str,
    /// What one operation is.
    about: &'static str,
    /// Runs it once.
    pub(crate) run: fn(&Plan) -> Lines<'_>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:18} {}", self.name, self.about)
    }
}

macro_rules! workloads {
    ($($name:literal, $about:literal, $run:path;)*) => {
        /// All workloads.
        pub(crate) const ALL: &[Workload] = &[$(
            Workload { name: $name, about: $about, run: |plan| Box::pin($run(plan)) },
        )*];
    };
}

workloads! {
    "ractor_call", "a call to one of N bare ractor actors (the floor)", ractor_call::run;
    "entity_call", "a call to one of N volatile entities", entity_call::run;
    "entity_call_by_id", "the same, with the reference made anew for each call", entity_call::by_id;
    "insert_limit", "the rows of one keyed durable call, bare, at most C outstanding", insert_limit::bounded;
    "insert_limit_open", "the same rows in batches of any size", insert_limit::open;
    "durable_call", "a keyed call to one of N durable entities, 200 bytes of state", durable::call;
    "durable_call_hot", "the same, all callers on one entity", durable::hot;
    "durable_cast", "a stored cast to one of N durable entities, handled once", durable::cast;
    "timer_fire", "a due timer, of 100 000 due at once; and the lateness of spread ones", timers::run;
    "saga_noop", "a run of a saga without steps, from start to result", saga::noop;
    "saga_5_steps", "a run of a saga with five trivial steps", saga::five_steps;
    "spawn_idle", "an actor or entity that is made and kept, N = 200 000", idle::run;
    "overload", "one of 1 000 000 casts at one slow entity, while others are called", overload::run;
}
