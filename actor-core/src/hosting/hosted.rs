//! A kind as its node sees it: what it is, what calls and messages it takes, and how it lets go.
//!
//! Entities and workflows implement it; nothing here knows how.

use std::{pin::Pin, sync::Arc};

use super::Hosting;
use crate::{
    client::{Client, Invocation},
    clock::Instant,
    entity::{Encoded, EventHandler, Method, Takeover},
    error::Refusal,
    id::{CallId, EntityId, ShardId},
    mailbox::MailboxRow,
    meter::Meter,
    store::{BoxFuture, StoreError},
};

/// The future of a call by name.
pub type Answer = Pin<Box<dyn Future<Output = Result<Encoded, Refusal>> + Send>>;

/// What kind of thing a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An entity whose state is lost when it leaves memory.
    Entity,
    /// An entity whose state is stored with each message.
    DurableEntity,
    /// A workflow; its runs are sagas.
    Workflow,
}

impl Role {
    /// Returns the word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::DurableEntity => "durable_entity",
            Self::Workflow => "workflow",
        }
    }

    /// Reads the word that is stored. One of a newer program counts as a volatile entity: calls to
    /// it are sent once.
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "durable_entity" => Self::DurableEntity,
            "workflow" => Self::Workflow,
            _ => Self::Entity,
        }
    }
}

/// One activation, for the dashboard.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id.
    pub id: EntityId,
    /// Its shard.
    pub shard: ShardId,
    /// Messages running and queued.
    pub depth: usize,
    /// When it was last used, if it is idle.
    pub idle_since: Option<Instant>,
    /// How often in a row it failed and was loaded again; 0 after a success, and for sagas, whose
    /// rows count it.
    pub failures: u32,
}

/// Sums over the activations of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct KindStats {
    /// Activations in memory.
    pub resident: usize,
    /// Messages running and queued.
    pub mailbox_depth: usize,
}

/// A kind as the node sees it.
pub trait Hosted: Send + Sync {
    /// Returns the stable name.
    fn kind(&self) -> &'static str;
    /// Returns the name of its group of shards.
    fn group(&self) -> &'static str;
    /// Returns what it is.
    fn role(&self) -> Role;
    /// Says whether the outside may call it.
    fn exposed(&self) -> bool;
    /// Says when a new owner of a shard may activate entities of this kind in it. Default: at once.
    fn takeover(&self) -> Takeover {
        Takeover::Early
    }
    /// Returns its methods.
    fn methods(&self) -> &'static [Method];
    /// Returns the events its entities receive.
    fn events(&self) -> &'static [EventHandler];
    /// Makes a call by name.
    fn invoke(self: Arc<Self>, client: Client, invocation: Invocation) -> Answer;
    /// As [`Hosted::invoke`], for a call that is made again at another node if it was in vain here,
    /// then as the call `message`: whatever its handler asks others meanwhile is asked under ids
    /// that derive from it, so that it counts once.
    fn invoke_as(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: CallId,
    ) -> Answer {
        let _ = message;
        self.invoke(client, invocation)
    }
    /// Hands over a stored message that is due; `since` as in [`Hosting::accept_row`].
    ///
    /// # Errors
    /// When it stays in the store for now.
    fn deliver(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
        row: &MailboxRow,
        since: u64,
    ) -> Result<(), Refusal>;
    /// A message was stored for the entity: it is read from the store in its place.
    ///
    /// # Errors
    /// When there is no room for its activation.
    fn ring(self: Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<(), Refusal>;
    /// Returns the activations in the order of their ids.
    fn targets(&self) -> Vec<Target>;
    /// Returns the activations that are idle, in any order, and since when each is.
    fn idle(&self) -> Vec<(Instant, EntityId)> {
        let idle = |target: Target| Some((target.idle_since?, target.id));
        self.targets().into_iter().filter_map(idle).collect()
    }
    /// Says whether the row is in memory.
    fn holds(&self, id: &EntityId, seq: i64) -> bool;
    /// Ends an activation if it is idle; says whether it did.
    fn evict(&self, id: &EntityId) -> bool;
    /// Lets the activations of these shards, sorted, end when they have run what they took in.
    fn retire(&self, shards: &[ShardId]);
    /// Ends the activations of these shards, sorted, or of all; queued calls are answered.
    fn stop_shards(&self, shards: Option<&[ShardId]>);
    /// Cuts off what still runs in these shards, sorted; its callers learn that the outcome is
    /// unknown.
    fn cut_off(&self, shards: &[ShardId]);
    /// Returns sums over the activations.
    fn stats(&self) -> KindStats;
    /// Returns the kind's counts.
    fn meter(&self) -> &Meter;
    /// Does the kind's own housekeeping, about once a minute: expired rows leave, gauges are set.
    ///
    /// # Errors
    /// When the store does not answer.
    fn sweep(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let _ = hosting;
        Box::pin(std::future::ready(Ok(())))
    }
}
