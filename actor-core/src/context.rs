//! What travels with a call: who asks, until when, and through which entities.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    client::Client,
    error::Refusal,
    event::Event,
    hosting::Hosting,
    id::{CallId, EntityId, EntityKey, ShardId},
    mailbox::Effect,
    recall::Recall,
};

/// Facts about the request that caused a call; they pass through every hop, stored ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestContext {
    /// The tenant on whose behalf the request runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The id the outside world gave the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The W3C `traceparent` of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// The most entities of a chain of callers that a call takes along to another node, the nearest
/// ones. A chain that leads back to one further away ends by its deadline.
pub(crate) const CHAIN_MAX: usize = 64;

/// An entity that waits for the outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its id.
    pub id: EntityId,
}

/// The entities that wait for a message, innermost first.
#[derive(Clone, Debug)]
pub(crate) enum Waiters {
    /// The handler of this message, and who waits for that.
    Here(Arc<Origin>),
    /// Handlers at other nodes.
    Elsewhere(Arc<[Waiter]>),
}

impl Waiters {
    /// Returns kind and id of each, innermost first.
    fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut at = Some(self);
        let mut far: &[Waiter] = &[];
        std::iter::from_fn(move || {
            if let Some(Self::Elsewhere(waiters)) = at {
                (at, far) = (None, waiters);
            }
            if let Some(Self::Here(origin)) = at {
                at = origin.parent.as_ref();
                return Some((origin.key.kind, origin.key.id.as_str()));
            }
            let (next, rest) = far.split_first()?;
            far = rest;
            Some((&*next.kind, next.id.as_str()))
        })
    }

    /// Returns the chain as text if the entity waits in it.
    pub(crate) fn cycle(&self, kind: &str, id: &str) -> Option<String> {
        let mut path = vec![format!("{kind}/{id}")];
        for (waiting_kind, waiting_id) in self.each() {
            path.push(format!("{waiting_kind}/{waiting_id}"));
            if (waiting_kind, waiting_id) == (kind, id) {
                path.reverse();
                return Some(path.join(" -> "));
            }
        }
        None
    }

    /// Returns the chain as it goes to another node.
    pub(crate) fn to_send(&self) -> Arc<[Waiter]> {
        let each = self.each().take(CHAIN_MAX);
        let waiters = each.map(|(kind, id)| Waiter {
            kind: kind.into(),
            id: EntityId::from(id),
        });
        waiters.collect()
    }
}

/// A message that is being handled: where calls made by its handler come from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) key: EntityKey,
    /// The handled message's id; calls and stored messages derive theirs from it.
    pub(crate) message: CallId,
    pub(crate) ordinal: AtomicU64,
    /// The entities that wait for this message.
    pub(crate) parent: Option<Waiters>,
    /// Whether calls made here carry derived ids, because the handler may run again.
    pub(crate) derives: bool,
    /// How late that may be.
    pub(crate) recall: Recall,
    /// Where a durable entity's outgoing rows gather until its commit, open while the handler runs;
    /// `None` for a volatile one.
    pub(crate) effects: Option<Mutex<Option<Vec<Effect>>>>,
}

impl Origin {
    /// Returns the id of the next call made by this handler: the same on a re-run.
    pub(crate) fn next_id(&self) -> CallId {
        self.message
            .derive(self.ordinal.fetch_add(1, Ordering::Relaxed))
    }

    /// Says whether what is sent here may be sent again under its derived id: it is stored at once,
    /// not with the commit of what sends it.
    pub(crate) fn sends_again(&self) -> bool {
        self.derives && self.effects.is_none()
    }

    /// Takes what the handler sent; nothing more becomes part of its commit.
    fn take_effects(&self) -> Vec<Effect> {
        let effects = self.effects.as_ref();
        let effects = effects.map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).take());
        effects.flatten().unwrap_or_default()
    }

    /// Keeps `effect` for the commit of the message that is being handled; gives it back if there
    /// is none, or the handler has ended.
    pub(crate) fn keep(&self, effect: Effect) -> Option<Effect> {
        let Some(effects) = &self.effects else {
            return Some(effect);
        };
        let mut effects = effects.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *effects {
            Some(open) => {
                open.push(effect);
                None
            }
            None => Some(effect),
        }
    }
}

/// What is known of the message that a handler handles.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Its id, if that is fixed.
    pub(crate) message: Option<CallId>,
    /// How late it may be handled again.
    pub(crate) recall: Recall,
    pub(crate) request: Option<Arc<RequestContext>>,
    pub(crate) parent: Option<Waiters>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            message: None,
            recall: Recall::Brief,
            request: None,
            parent: None,
        }
    }
}

/// What a handler knows and can reach; derefs to [`Client`].
///
/// In a durable entity, `cast`, `after`, `at` and `publish` through it become rows of the message's
/// own commit, if they happen before the handler returns: what a task it spawned sends later is
/// stored on its own. A call awaited through it carries an id derived from the message, so a re-run
/// asks again under the same id.
pub struct Ctx<K> {
    hosting: Arc<Hosting>,
    id: EntityId,
    kind: &'static str,
    shard: ShardId,
    durable: bool,
    turn: Turn,
    /// Made on first use: most handlers reach nothing.
    client: OnceLock<Client>,
    of: PhantomData<fn() -> K>,
}

impl<K> Ctx<K> {
    pub(crate) fn new(
        hosting: Arc<Hosting>,
        key: &EntityKey,
        shard: ShardId,
        durable: bool,
    ) -> Self {
        Self {
            hosting,
            id: key.id.clone(),
            kind: key.kind,
            shard,
            durable,
            turn: Turn::default(),
            client: OnceLock::new(),
            of: PhantomData,
        }
    }

    /// Prepares for the next message.
    pub(crate) fn turn(&mut self, turn: Turn) {
        self.turn = turn;
        self.client = OnceLock::new();
    }

    /// Returns what the handler wanted stored with its commit. It has ended: whatever it left
    /// running sends on its own from now on.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        let effects = self.client.get().and_then(|client| client.origin.as_ref());
        effects
            .map(|origin| origin.take_effects())
            .unwrap_or_default()
    }

    /// Returns the id of the entity.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Returns the entity's kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the shard the entity belongs to.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the request that caused this message, if it came from one.
    pub fn request(&self) -> Option<&RequestContext> {
        self.turn.request.as_deref()
    }

    /// Announces an event; in a durable entity it commits with the message.
    ///
    /// # Errors
    /// When the event cannot be written, or, in a volatile entity, the store refuses it.
    pub async fn publish<E: Event>(&self, event: E) -> Result<(), Refusal> {
        Client::publish(self, event).await
    }
}

impl<K> Deref for Ctx<K> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.get_or_init(|| {
            let origin = Origin {
                key: EntityKey {
                    kind: self.kind,
                    id: self.id.clone(),
                },
                message: self
                    .turn
                    .message
                    .unwrap_or_else(|| self.hosting.call_ids().next()),
                ordinal: AtomicU64::new(0),
                parent: self.turn.parent.clone(),
                derives: self.durable,
                recall: self.turn.recall,
                effects: self.durable.then(|| Mutex::new(Some(Vec::new()))),
            };
            Client {
                hosting: self.hosting.clone(),
                origin: Some(Arc::new(origin)),
                called_by: None,
                request: self.turn.request.clone(),
            }
        })
    }
}

impl<K> fmt::Debug for Ctx<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctx({}/{})", self.kind, self.id)
    }
}
