//! The ports to what is outside a node: calls leave it for whichever node owns the target's shard,
//! ids come from what the whole cluster agreed on.
//!
//! Not here: how they travel. actor-cluster provides both; a node without a router reaches its own
//! shards only.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    client::Invocation,
    clock::Instant,
    context::{RequestContext, Waiter},
    error::Refusal,
    hosting::{Answer, Role},
    id::{EntityId, Snowflake},
    mailbox::Effect,
    store::BoxFuture,
    topic::{Position, TopicEvent},
};

/// A call on its way to another node.
#[derive(Clone, Debug)]
pub struct RoutedCall {
    /// The call. Its time-out is what was left when it set out.
    pub invocation: Invocation,
    /// What the target is: calls to durable ones may be sent again under their identity, calls to
    /// volatile ones never.
    pub role: Role,
    /// Whether its method says that doing it twice does no harm.
    pub idempotent: bool,
    /// When the caller stops waiting, by this node's clock.
    pub deadline: Instant,
    /// The request it belongs to.
    pub request: Option<Arc<RequestContext>>,
    /// The entities that wait for it, the nearest first.
    pub chain: Arc<[Waiter]>,
}

/// Moves calls and stored messages to the owner of their target's shard.
pub trait Router: fmt::Debug + Send + Sync {
    /// Makes a call where the target lives. It ends by the call's deadline, whatever happens.
    fn invoke(&self, call: RoutedCall) -> Answer;

    /// Stores a message or an event where the target lives. It ends by `deadline`, whatever
    /// happens.
    fn commit(
        &self,
        effect: Effect,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Position, Refusal>>;

    /// Tells the target's owner that a message for it was stored that may run in `due_in`. May do
    /// nothing: the owner looks for itself every few seconds.
    fn wake(&self, kind: &str, id: &EntityId, due_in: Duration) {
        let _ = (kind, id, due_in);
    }

    /// Tells the other nodes' listeners of an event that is stored. May do nothing: listeners then
    /// miss it until they ask for what they missed.
    fn announce(&self, event: &TopicEvent) {
        let _ = event;
    }
}

/// Makes ids that no node of the cluster makes twice.
pub trait IdSource: fmt::Debug + Send + Sync {
    /// Returns the next id. It waits when ids were made faster than they can be, a few seconds at
    /// most, and is `Unavailable` when it may not make any.
    fn snowflake(&self) -> BoxFuture<'_, Result<Snowflake, Refusal>>;
}

/// Is told when work passes a point where a crash would be interesting. The simulator stops nodes
/// there; nodes in production have none.
pub trait Probe: fmt::Debug + Send + Sync {
    /// Completes when the work may go on; never, if its node is to die here.
    fn reached(&self, point: &str) -> BoxFuture<'static, ()>;
}
