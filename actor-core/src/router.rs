//! The port through which calls leave a node: to whichever node owns the target's shard.
//!
//! Not here: how they travel. actor-cluster provides the router; a node without one reaches its own
//! shards only.

use std::{fmt, sync::Arc};

use crate::{
    client::Invocation,
    clock::Instant,
    context::RequestContext,
    error::Refusal,
    hosting::{Answer, Role},
    mailbox::Effect,
    store::BoxFuture,
    topic::Position,
};

/// A call on its way to another node.
#[derive(Clone, Debug)]
pub struct RoutedCall {
    /// The call. Its time-out is what was left when it set out.
    pub invocation: Invocation,
    /// What the target is: calls to durable ones may be sent again under their identity, calls to
    /// volatile ones never.
    pub role: Role,
    /// When the caller stops waiting, by this node's clock.
    pub deadline: Instant,
    /// The request it belongs to.
    pub request: Option<Arc<RequestContext>>,
}

/// Moves calls and stored messages to the owner of their target's shard.
pub trait Router: fmt::Debug + Send + Sync {
    /// Makes a call where the target lives. It ends by the call's deadline, whatever happens.
    fn invoke(&self, call: RoutedCall) -> Answer;

    /// Stores a message or an event where the target lives.
    fn commit(&self, effect: Effect) -> BoxFuture<'static, Result<Position, Refusal>>;
}

/// Is told when work passes a point where a crash would be interesting. The simulator stops nodes
/// there; nodes in production have none.
pub trait Probe: fmt::Debug + Send + Sync {
    /// Completes when the work may go on; never, if its node is to die here.
    fn reached(&self, point: &str) -> BoxFuture<'static, ()>;
}
