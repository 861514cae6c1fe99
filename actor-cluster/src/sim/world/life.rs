//! One life of a simulated node, as a task on its own runtime.

use std::{sync::Arc, time::Duration};

use actor_core::clock::Clock;

use crate::sim::{
    machine::{Cut, Machine, PartClock},
    network::Part,
    shared::Shared,
};
use crate::{NodeBuilder, node::Phase};

/// How long a start may take before whoever watches the program ends it and tries again.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What the task that lives a node's life needs to know of it.
pub(super) struct Place {
    part: Part,
    clock: PartClock,
    cut: Arc<Cut>,
}

impl Place {
    pub(super) fn of(machine: &Machine) -> Self {
        Self {
            part: machine.part,
            clock: machine.clock,
            cut: machine.cut.clone(),
        }
    }
}

/// Starts a node and watches it; a program that cannot start, or lost its lease, ends and is
/// started again.
pub(super) async fn live(shared: Arc<Shared>, builder: NodeBuilder, place: Place) {
    let Place { part, clock, cut } = place;
    let Part::Node { index, .. } = part else {
        return;
    };
    let started = tokio::select! {
        biased;
        started = builder.start() => Some(started),
        // What the start began ends with the node's runtime.
        () = Clock.sleep(START_PATIENCE) => None,
    };
    let why = match started {
        Some(Ok(node)) => {
            if !shared.is_alive(part) {
                return;
            }
            let shards = node.hosting().shards().owned().len();
            shared.trace.add(
                clock.now(),
                format_args!("{part} is up with {shards} shards"),
            );
            shared.slot(index).node = Some(node.clone());
            match node.ended().await {
                Phase::Lost(loss) => loss.to_string(),
                _ => return,
            }
        }
        Some(Err(error)) => {
            shared.slot(index).trouble = Some(error.to_string());
            format!("it cannot start: {error}")
        }
        None => "its start hangs".to_owned(),
    };
    shared.want_crash(part, clock.now(), why);
    cut.now();
}
