//! The floor: calls to bare ractor actors.

use std::sync::Arc;

use actor_core::{Failure, Result};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort};

use crate::{arguments::Plan, load::closed_loop, report::Line};

/// An actor that counts.
#[derive(Debug)]
pub(crate) struct Counter;

/// What it understands.
#[derive(Debug)]
pub(crate) enum CounterMessage {
    /// Adds, and answers the sum.
    Add(u64, RpcReplyPort<u64>),
}

impl Message for CounterMessage {}

impl Actor for Counter {
    type Msg = CounterMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: CounterMessage,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let CounterMessage::Add(number, reply) = message;
        *count += number;
        // The caller may have gone.
        let _ = reply.send(*count);
        Ok(())
    }
}

/// Runs `ractor_call`.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut actors = Vec::new();
    for _ in 0..plan.entities {
        let (actor, _) = Actor::spawn(None, Counter, ()).await?;
        actors.push(actor);
    }
    let actors = Arc::new(actors);
    let load = closed_loop(plan, move |turn| {
        let actors = actors.clone();
        async move {
            let actor = &actors[turn.pick(actors.len())];
            ractor::call!(actor, CounterMessage::Add, 1).map_err(Failure::from)
        }
    });
    Ok(vec![Line::of("ractor_call", "none", plan, &load.await)])
}
