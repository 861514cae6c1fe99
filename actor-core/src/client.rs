//! The handle of user code: reach entities, announce events, find resources.

use std::{
    any::Any,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use crate::{
    codec::Codec,
    context::{Origin, RequestContext, Waiter, Waiters},
    entity::{Encoded, EntityRef, Handlers},
    error::Refusal,
    event::Event,
    hosting::{Hosting, Role},
    id::{CallId, EntityId, EntityKey, Snowflake},
    mailbox::{Announcement, Effect},
    recall::Recall,
    router::RoutedCall,
    store::topics::EVENTS_KEPT,
    topic::{Position, Subscribed, Topics, history},
};

/// The time a call may take unless it says otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time a call may ask for.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Reaches entities and topics. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) hosting: Arc<Hosting>,
    /// The message this client calls on behalf of.
    pub(crate) origin: Option<Arc<Origin>>,
    /// The entities of other nodes that wait for what is called through this client.
    pub(crate) called_by: Option<Arc<[Waiter]>>,
    pub(crate) request: Option<Arc<RequestContext>>,
}

/// A call whose kind and method are known by name only, as gateways make it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The target's kind.
    pub kind: Arc<str>,
    /// The target's id.
    pub id: EntityId,
    /// The method's wire name.
    pub method: Arc<str>,
    /// How `args` are written.
    pub codec: Codec,
    /// How the outcome is wanted.
    pub reply: Codec,
    /// The object of named arguments; empty means no arguments.
    pub args: Vec<u8>,
    /// The identity of the call, if its repeats must count once.
    pub call: Option<CallId>,
    /// How late it may be repeated; says nothing without an identity. Default: long after.
    pub recall: Recall,
    /// How long the caller waits; default 5 s, cut to 5 min.
    pub timeout: Duration,
    /// Whether the answer is wanted.
    pub mode: Mode,
}

/// Whether a call is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The caller waits for the outcome.
    #[default]
    Call,
    /// The caller waits for acceptance only: in memory for a volatile entity, stored for a durable
    /// one.
    Cast,
}

impl Invocation {
    /// Returns an unkeyed JSON call with the default time-out.
    pub fn new(kind: impl AsRef<str>, id: impl fmt::Display, method: impl AsRef<str>) -> Self {
        Self {
            kind: kind.as_ref().into(),
            id: EntityId::new(id),
            method: method.as_ref().into(),
            codec: Codec::Json,
            reply: Codec::Json,
            args: Vec::new(),
            call: None,
            recall: Recall::Long,
            timeout: CALL_TIMEOUT,
            mode: Mode::Call,
        }
    }

    /// Sets the arguments, written in `codec`; the outcome is wanted in the same.
    #[must_use]
    pub fn args(mut self, codec: Codec, args: Vec<u8>) -> Self {
        (self.codec, self.reply, self.args) = (codec, codec, args);
        self
    }

    /// Asks for the outcome in another codec than the arguments are written in.
    #[must_use]
    pub fn reply_in(mut self, codec: Codec) -> Self {
        self.reply = codec;
        self
    }

    /// Makes repeats with the same key count once.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        let id = CallId::from_key(key).within(&self.kind, self.id.as_str());
        (self.call, self.recall) = (Some(id), Recall::Long);
        self
    }

    /// Sets how long the caller waits.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks for acceptance only.
    #[must_use]
    pub fn cast(mut self) -> Self {
        self.mode = Mode::Cast;
        self
    }
}

impl Client {
    /// Returns a client of a running node.
    pub fn new(hosting: Arc<Hosting>) -> Self {
        Self {
            hosting,
            origin: None,
            called_by: None,
            request: None,
        }
    }

    /// Returns the entity `id` of kind `K`. Nothing is sent until a method of it is awaited.
    pub fn entity<K: Handlers>(&self, id: impl fmt::Display) -> K::Ref {
        EntityRef::new(self.clone(), EntityId::new(id)).into()
    }

    /// Returns the request that what is done through this client belongs to.
    pub fn request(&self) -> Option<&Arc<RequestContext>> {
        self.request.as_ref()
    }

    /// Returns this client with `request` passed along in all it does.
    #[must_use]
    pub fn with_request(&self, request: RequestContext) -> Self {
        Self {
            request: Some(Arc::new(request)),
            ..self.clone()
        }
    }

    /// Returns this client for a call that entities of other nodes wait for, the nearest first: one
    /// that leads back to any of them ends as `Cycle`.
    #[must_use]
    pub fn called_by(&self, chain: Arc<[Waiter]>) -> Self {
        Self {
            called_by: (!chain.is_empty()).then_some(chain),
            ..self.clone()
        }
    }

    /// Returns the entities that wait for what this client calls.
    fn waiters(&self) -> Option<Waiters> {
        let here = self.origin.clone().map(Waiters::Here);
        here.or_else(|| self.called_by.clone().map(Waiters::Elsewhere))
    }

    /// Returns the entities that wait for a call of this one.
    ///
    /// # Errors
    /// `Cycle` if it is one of them.
    pub(crate) fn waiters_for(
        &self,
        kind: &str,
        id: &EntityId,
    ) -> Result<Option<Waiters>, Refusal> {
        let waiters = self.waiters();
        match waiters.as_ref().and_then(|it| it.cycle(kind, id.as_str())) {
            Some(path) => Err(Refusal::Cycle(path.into())),
            None => Ok(waiters),
        }
    }

    /// Returns a client for work that may run again as the message `message` of `key`: a repeat of
    /// it makes its calls, in the same order, under the same ids.
    #[must_use]
    pub fn on_behalf_of(&self, key: EntityKey, message: CallId) -> Self {
        let origin = Origin {
            key,
            message,
            ordinal: AtomicU64::new(0),
            parent: self.waiters(),
            derives: true,
            // A later life of the node may do it again.
            recall: Recall::Long,
            effects: None,
        };
        Self {
            origin: Some(Arc::new(origin)),
            ..self.clone()
        }
    }

    /// Makes a call by name. The outcome's bytes are in the invocation's `reply` codec.
    ///
    /// # Errors
    /// Every [`Refusal`]; the handler's own error is an `Ok` with [`Encoded::ok`] false.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer, not the work.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Encoded, Refusal> {
        let hosting = &self.hosting;
        let hosted = match hosting.hosted(&invocation.kind) {
            Ok(hosted) => hosted.clone(),
            Err(_) if hosting.is_routed() => return self.invoke_elsewhere(invocation).await,
            Err(refusal) => return Err(refusal),
        };
        if !hosting.is_routed() {
            return hosted.invoke(self.clone(), invocation).await;
        }
        let deadline = hosting.deadline(invocation.timeout);
        let shard = hosting.shard_of(&invocation.kind, invocation.id.as_str());
        let again = self.id_of_repeats(&invocation, hosted.role());
        // A durable entity remembers a call with an identity.
        let known = invocation.call.is_some() || self.derives();
        let remembered = known && hosted.role() != Role::Entity;
        let method = hosted.methods().iter();
        let mut method = method.filter(|method| *method.name == *invocation.method);
        let idempotent = method.next().is_some_and(|method| method.idempotent);
        let repeatable = remembered || idempotent;
        loop {
            let mut invocation = invocation.clone();
            invocation.timeout = deadline.saturating_duration_since(hosting.now());
            let router = hosting.route(&invocation.kind, invocation.id.as_str());
            if let Some(router) = router.cloned() {
                if let (None, Some(again)) = (invocation.call, again) {
                    (invocation.call, invocation.recall) = (Some(again), self.recall());
                }
                return router
                    .invoke(self.routed(invocation, hosted.role(), idempotent)?)
                    .await;
            }
            let (hosted, client) = (hosted.clone(), self.clone());
            let tenure = hosting.shards().tenure(shard);
            let answer = match again {
                Some(message) => hosted.invoke_as(client, invocation, message),
                None => hosted.invoke(client, invocation),
            };
            let answer = answer.await;
            // It may be back by now: what was refused for its going was refused all the same.
            let moved = hosting.moved(shard) || !hosting.shards().holds(shard, tenure);
            match answer {
                // Nothing was stored here, and the shard went to another node.
                Err(Refusal::Unavailable(_)) if moved => {}
                Err(Refusal::UnknownOutcome(_)) if repeatable && moved => {}
                answer => return answer,
            }
        }
    }

    /// Says whether calls made through this client carry derived ids.
    pub(crate) fn derives(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.derives)
    }

    /// Says how late what is asked through this client under ids of the framework may be repeated.
    pub(crate) fn recall(&self) -> Recall {
        let origin = self.origin.as_ref();
        origin.map_or(Recall::Brief, |origin| origin.recall)
    }

    /// Returns the id under which a call without one is made at other nodes. It is made once:
    /// what a first try asked others, before it turned out to be in vain, must be the same to them
    /// as what its repeats ask.
    fn id_of_repeats(&self, invocation: &Invocation, role: Role) -> Option<CallId> {
        if invocation.call.is_some() {
            return None;
        }
        match &self.origin {
            Some(origin) if origin.derives => Some(origin.next_id()),
            _ => (role != Role::Entity).then(|| self.hosting.call_ids().next()),
        }
    }

    /// Makes a call by name of a kind that is not hosted here.
    async fn invoke_elsewhere(&self, invocation: Invocation) -> Result<Encoded, Refusal> {
        let hosting = &self.hosting;
        let deadline = hosting.deadline(invocation.timeout);
        let kind = hosting.find_kind(&invocation.kind, deadline).await?;
        // Which of its methods may run twice is not known here.
        let call = self.routed(invocation, kind.role, false)?;
        hosting.send_elsewhere(call).await
    }

    /// Prepares a call for another node: cycle check, identity, what is left of its time.
    pub(crate) fn routed(
        &self,
        mut invocation: Invocation,
        role: Role,
        idempotent: bool,
    ) -> Result<RoutedCall, Refusal> {
        if !invocation.id.is_valid() {
            return Err(Refusal::Decode(
                "an entity id has 1 to 512 bytes and no NUL".into(),
            ));
        }
        // Nobody waits for what a cast does.
        let waiters = match invocation.mode {
            Mode::Call => self.waiters_for(&invocation.kind, &invocation.id)?,
            Mode::Cast => None,
        };
        if let Some(origin) = &self.origin
            && invocation.call.is_none()
            && origin.derives
        {
            (invocation.call, invocation.recall) = (Some(origin.next_id()), origin.recall);
        }
        let deadline = self.hosting.deadline(invocation.timeout);
        Ok(RoutedCall {
            invocation,
            role,
            idempotent,
            deadline,
            request: self.request.clone(),
            chain: waiters.map(|waiters| waiters.to_send()).unwrap_or_default(),
        })
    }

    /// Announces an event once it is stored; inside a durable handler, with the handler's commit.
    ///
    /// # Errors
    /// When the event cannot be written or the store refuses it.
    pub async fn publish<E: Event>(&self, event: E) -> Result<(), Refusal> {
        let announcement =
            Announcement::of(&event).map_err(|error| Refusal::Decode(error.to_string().into()))?;
        self.announce(announcement).await.map(drop)
    }

    /// Announces on a topic by name; returns its position, or `None` if it waits for a commit.
    ///
    /// # Errors
    /// When the store refuses it.
    pub async fn announce(&self, announcement: Announcement) -> Result<Option<Position>, Refusal> {
        let effect = Effect::Announce(announcement);
        let unkept = match &self.origin {
            Some(origin) => origin.keep(effect),
            None => Some(effect),
        };
        match unkept {
            None => Ok(None),
            Some(effect) => {
                let deadline = self.hosting.deadline(CALL_TIMEOUT);
                self.hosting.commit_effect(effect, deadline).await.map(Some)
            }
        }
    }

    /// Listens to a topic; with `since`, from there on, as far as its history reaches.
    ///
    /// Events come in order, without gap or duplicate, whichever nodes announce them, until the
    /// subscription has lagged and ends; come back with the last position then.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn subscribe(
        &self,
        topic: &str,
        since: Option<Position>,
    ) -> Result<Subscribed, Refusal> {
        // Listen first, read second: an event in between is in both and left out of the second.
        let topic = Arc::<str>::from(topic);
        let mut subscription = self.hosting.topics().listen(&topic);
        let read = history::read(self.hosting.store(), &topic, since, EVENTS_KEPT).await;
        let history = read.map_err(|error| error.refusal())?;
        let end = history.events.last().map(|event| event.position);
        let full = history.events.len() >= EVENTS_KEPT as usize;
        // There may be more events than are read at once. Without recovery everything after the
        // position read is live.
        let seen = end.filter(|_| full).unwrap_or(history.position);
        subscription.begin(history.position, seen);
        Ok(Subscribed {
            position: history.position,
            recovered: history.recovered,
            backlog: history.events,
            subscription,
        })
    }

    /// Returns an id that nobody in the cluster ever gets again and that sorts behind the ones this
    /// node made before.
    ///
    /// A handler or saga body that runs again gets another one: make it outside and pass it in, or
    /// in a step. More than 4096 in a millisecond wait for the next one.
    ///
    /// # Errors
    /// `Unavailable`: the node lost its lease or stops, 1024 other nodes make ids, the store does
    /// not answer, the database's clock stepped back by more than a few seconds or stands before
    /// 2025; and always for a client that is no node's.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a gap at most.
    pub async fn snowflake(&self) -> Result<Snowflake, Refusal> {
        match self.hosting.ids() {
            Some(ids) => ids.snowflake().await,
            None => Err(Refusal::Unavailable(
                "ids are made by nodes, and this client belongs to none".into(),
            )),
        }
    }

    /// Returns the topics as this node sees them.
    pub fn topics(&self) -> &Arc<Topics> {
        self.hosting.topics()
    }

    /// Returns a value given to the node with `provide`.
    ///
    /// # Panics
    /// If the node was not given one: a mistake in the program's wiring.
    pub fn resource<T: Any + Send + Sync>(&self) -> &T {
        self.hosting.resource().unwrap_or_else(|| {
            panic!(
                "the node was not given a `{}`: call `.provide(…)`",
                std::any::type_name::<T>()
            )
        })
    }

    /// Returns the part of the node that hosts kinds, for gateways and dashboards.
    pub fn hosting(&self) -> &Arc<Hosting> {
        &self.hosting
    }
}

impl AsRef<Self> for Client {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
