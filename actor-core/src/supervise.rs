//! The supervision tree: node -> shard -> entity hosts, always linked (architecture D7).
//!
//! A host that fails is a bug of ours (handlers' panics are caught inside it): it is logged and
//! counted here; the entity's next message makes a new activation. Callers that waited are answered
//! when the failed host's state is dropped.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Message, SupervisionEvent};

use crate::{error::Refusal, id::ShardId};

/// Supervisors are told nothing; they watch.
#[derive(Debug)]
pub(crate) struct Watch;

impl Message for Watch {}

/// Supervises the shards of a node.
#[derive(Debug)]
pub(crate) struct NodeSupervisor;

impl Actor for NodeSupervisor {
    type Msg = Watch;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Watch>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Watch>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "a shard supervisor failed");
        }
        Ok(())
    }
}

/// Supervises the entity hosts of one shard.
#[derive(Debug)]
struct ShardSupervisor(ShardId);

impl Actor for ShardSupervisor {
    type Msg = Watch;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Watch>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Watch>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            metrics::counter!("actor_host_failures_total").increment(1);
            tracing::error!(shard = %self.0, %error, "an entity host failed");
        }
        Ok(())
    }
}

/// Starts the supervisor of one shard under the node's.
pub(crate) fn shard_supervisor(shard: ShardId, root: ActorCell) -> Result<ActorCell, Refusal> {
    let spawned =
        ractor::ActorRuntime::spawn_linked_instant(None, ShardSupervisor(shard), (), root);
    match spawned {
        Ok((actor, _started)) => Ok(actor.get_cell()),
        Err(error) => Err(Refusal::Unavailable(
            format!("no supervisor: {error}").into(),
        )),
    }
}
