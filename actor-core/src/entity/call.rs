//! Calls: a reference's method makes a value, modifiers change it, awaiting it sends it.

use std::{
    convert::Infallible,
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Handlers,
    delivery::{Delivery, Reply, TypedReply, unwritable},
    directory::{Directory, refusal_is_retried, role},
    slot::{Shared, Slot},
};
use crate::{
    client::{CALL_TIMEOUT, Client, Mode},
    clock::Instant,
    codec::Codec,
    error::{CallError, Refusal},
    hosting::{AlarmGuard, Answer, gone},
    id::{CallId, EntityId},
    mailbox::Due,
    recall::Recall,
    router::RoutedCall,
};

/// An entity, reachable. The reference that `#[handlers]` makes derefs to this.
pub struct EntityRef<K: Handlers> {
    client: Client,
    directory: Result<Arc<Directory<K>>, Refusal>,
    id: EntityId,
    /// The activation this reference met first; a shortcut that may lead to one that has ended.
    seen: OnceLock<Weak<Slot<K>>>,
}

impl<K: Handlers> EntityRef<K> {
    pub(crate) fn new(client: Client, id: EntityId) -> Self {
        Self {
            directory: client.hosting.host_of::<K, Directory<K>>(),
            client,
            id,
            seen: OnceLock::new(),
        }
    }

    /// Returns the id.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Returns the kind's stable name.
    pub fn kind(&self) -> &'static str {
        K::KIND
    }

    /// Makes a call; the generated methods come here.
    pub fn call<T, E>(&self, args: K::Args, pick: Pick<K, T, E>) -> Call<'_, K, T, E> {
        Call {
            target: self,
            args,
            pick,
            timeout: CALL_TIMEOUT,
            call: None,
            stored: false,
            due: None,
            expires: None,
        }
    }
}

impl<K: Handlers> Clone for EntityRef<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            directory: self.directory.clone(),
            id: self.id.clone(),
            seen: self.seen.clone(),
        }
    }
}

impl<K: Handlers> fmt::Debug for EntityRef<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", K::KIND, self.id)
    }
}

/// Takes a method's result out of the kind's outcome.
pub type Pick<K, T, E> = fn(<K as Handlers>::Outcome) -> Option<Result<T, E>>;

/// A call that was not sent yet. Await it for the method's result.
///
/// # Cancel safety
/// Dropping the future abandons the answer, never the work.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<'a, K: Handlers, T, E> {
    target: &'a EntityRef<K>,
    args: K::Args,
    pick: Pick<K, T, E>,
    timeout: Duration,
    call: Option<CallId>,
    stored: bool,
    due: Option<Due>,
    expires: Option<Duration>,
}

impl<'a, K: Handlers, T, E> Call<'a, K, T, E> {
    /// Sets how long to wait for the answer; default 5 s, cut to 5 min.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes repeats with the same key, to the same entity, count once.
    ///
    /// The outcome is remembered for 24 h (`#[entity(key_retention = "…")]`); a key used again with
    /// other arguments ends as `KeyReused`.
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        let id = CallId::from_key(key.as_ref());
        self.call = Some(id.within(K::KIND, self.target.id.as_str()));
        self
    }

    /// Stores the message before it runs, also for a volatile entity; for casts.
    pub fn durable(mut self) -> Self {
        self.stored = true;
        self
    }

    /// Drops a stored message that did not begin to run within this time of being sent, also of one
    /// that is due later; cut to 100 years.
    pub fn expires(mut self, within: Duration) -> Self {
        self.expires = Some(within);
        self
    }

    /// Stores the message; it runs once, not before `delay` has passed; cut to 100 years.
    ///
    /// # Errors
    /// When the store refuses it.
    pub async fn after(mut self, delay: Duration) -> Result<(), CallError<Infallible>> {
        self.due = Some(Due::After(delay));
        self.cast().await
    }

    /// Stores the message; it runs once, not before `unix_ms` (milliseconds since 1970, database
    /// time).
    ///
    /// # Errors
    /// When the store refuses it.
    pub async fn at(mut self, unix_ms: i64) -> Result<(), CallError<Infallible>> {
        self.due = Some(Due::At(unix_ms));
        self.cast().await
    }

    /// Sends without waiting for the outcome: returns once a volatile entity has it queued, or a
    /// durable entity has it stored. In a durable handler it becomes part of the handler's commit.
    ///
    /// # Errors
    /// When it was not accepted.
    pub async fn cast(self) -> Result<(), CallError<Infallible>> {
        let directory = self.target.directory.as_ref();
        let (client, id) = (&self.target.client, &self.target.id);
        if let Err(refusal) = directory {
            if !client.hosting.is_routed() {
                return Err(refusal.clone());
            }
            // What is written into a commit needs its shard then.
            let deadline = client.hosting.deadline(self.timeout);
            client.hosting.locate(K::KIND, deadline).await?;
        }
        let in_commit = client
            .origin
            .as_ref()
            .is_some_and(|origin| origin.effects.is_some());
        let key = self.call.map(|call| (call, Recall::Long));
        if !(in_commit || self.stored || self.due.is_some() || K::DURABLE.is_some()) {
            match directory {
                Ok(directory) => client.cast(directory, id, self.args, key).await?,
                Err(_) => client.cast_elsewhere::<K>(id, &self.args, key).await?,
            }
            return Ok(());
        }
        let mut message = client.message::<K>(id, &self.args, key)?;
        message.due = self.due;
        message.expires = self.expires;
        client
            .send(message, client.hosting.deadline(self.timeout))
            .await
    }
}

impl<K: Handlers, T, E> fmt::Debug for Call<'_, K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = K::METHODS[K::method(&self.args)].name;
        write!(f, "{:?}.{method}(…)", self.target)
    }
}

impl<'a, K: Handlers, T, E> IntoFuture for Call<'a, K, T, E> {
    type Output = Result<T, CallError<E>>;
    type IntoFuture = CallFuture<'a, K, T, E>;

    fn into_future(self) -> Self::IntoFuture {
        let hosting = &self.target.client.hosting;
        CallFuture {
            target: self.target,
            pick: self.pick,
            deadline: hosting.deadline(self.timeout),
            call: self.call,
            state: State::Unsent(Some(self.args)),
            alarm: AlarmGuard {
                wheel: hosting.wheel(),
                id: None,
            },
            again: None,
        }
    }
}

/// The future of a [`Call`].
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<'a, K: Handlers, T, E> {
    target: &'a EntityRef<K>,
    pick: Pick<K, T, E>,
    deadline: Instant,
    call: Option<CallId>,
    state: State<K>,
    alarm: AlarmGuard<'a>,
    /// Method and arguments, to send the call again: one with an identity, or one that nobody took.
    again: Option<(usize, Arc<[u8]>, Option<CallId>)>,
}

enum State<K: Handlers> {
    Unsent(Option<K::Args>),
    Waiting(oneshot::Receiver<TypedReply<K>>, Option<(Shared<K>, u64)>),
    Pausing(Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>),
    /// On its way to another node, which runs the method with this index.
    Routed(usize, Answer),
}

// Nothing in here is pinned in place: receivers and boxed futures move freely.
impl<K: Handlers, T, E> Unpin for CallFuture<'_, K, T, E> {}

impl<K: Handlers, T, E> CallFuture<'_, K, T, E> {
    fn send(&mut self, args: K::Args) -> Result<(), Refusal> {
        let client = &self.target.client;
        let directory = match &self.target.directory {
            Ok(directory) => directory,
            Err(_) if client.hosting.is_routed() => {
                let (method, call) = self.to_route(&args)?;
                return self.routed(method, client.hosting.send_elsewhere(call));
            }
            Err(refusal) => return Err(refusal.clone()),
        };
        if let Some(router) = client.hosting.route(K::KIND, self.target.id.as_str()) {
            let (method, call) = self.to_route(&args)?;
            return self.routed(method, router.invoke(call));
        }
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::Typed(sender);
        let known = self.identity().map(|id| (id, self.recall()));
        let delivery = client.delivery::<K>(
            &self.target.id,
            args,
            reply,
            Some(self.deadline),
            known,
            None,
        )?;
        if let (Some(identity), Some(bytes)) = (delivery.identity(), delivery.encoded()) {
            self.again = Some((delivery.method, bytes.clone(), Some(identity.id)));
        }
        let seen = &self.target.seen;
        let mut message = Some(delivery);
        let admitted = directory.admit_seen(&client.hosting, &self.target.id, seen, &mut message);
        match admitted {
            Ok(queued) => {
                self.state = State::Waiting(receiver, queued);
                Ok(())
            }
            Err(refusal) => {
                self.keep(message);
                Err(refusal)
            }
        }
    }

    /// Prepares the call for another node; returns its method, too.
    fn to_route(&self, args: &K::Args) -> Result<(usize, RoutedCall), Refusal> {
        let (client, method) = (&self.target.client, K::method(args));
        let mut invocation = client.invocation::<K>(&self.target.id, args, Mode::Call)?;
        (invocation.call, invocation.recall) = (self.identity(), self.recall());
        invocation.timeout = self
            .deadline
            .saturating_duration_since(client.hosting.now());
        let call = client.routed(invocation, role::<K>(), K::METHODS[method].idempotent)?;
        Ok((method, call))
    }

    /// Notes that the call is on its way. Whoever routes it also repeats it.
    fn routed(&mut self, method: usize, answer: Answer) -> Result<(), Refusal> {
        self.state = State::Routed(method, answer);
        self.again = None;
        Ok(())
    }

    fn identity(&self) -> Option<CallId> {
        self.again.as_ref().and_then(|(_, _, id)| *id).or(self.call)
    }

    fn recall(&self) -> Recall {
        match self.call {
            Some(_) => Recall::Long,
            None => self.target.client.recall(),
        }
    }

    /// Keeps a call that found its entity's shard on the way to another node, to send it there; or
    /// one that has to wait for a former owner's lease.
    fn keep(&mut self, message: Option<Delivery<K>>) {
        let hosting = &self.target.client.hosting;
        let shard = hosting.shard_of(K::KIND, self.target.id.as_str());
        if let Some(mut message) = message
            && self.again.is_none()
            && (hosting.is_routed() || hosting.is_held(K::KIND, shard))
            && message.encode().is_ok()
            && let Some(bytes) = message.encoded()
        {
            self.again = Some((message.method, bytes.clone(), None));
        }
    }

    /// Decides after a refusal: ends the call, or pauses before it is sent again.
    fn refused(&mut self, refusal: Refusal) -> Option<Refusal> {
        let known = matches!(self.again, Some((_, _, Some(_))));
        if !refusal_is_retried::<K>(&refusal, known, self.again.is_some()) {
            return Some(refusal);
        }
        let (hosting, deadline) = (self.target.client.hosting.clone(), self.deadline);
        self.state = State::Pausing(Box::pin(async move {
            hosting.pause_before_retry(deadline, refusal).await
        }));
        None
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<K::Outcome>, Refusal>> {
        match &mut self.state {
            State::Unsent(args) => {
                let args = args.take().expect("a call is not polled after its end");
                Poll::Ready(self.send(args).map(|()| None))
            }
            State::Waiting(receiver, queued) => {
                if let Poll::Ready(answer) = Pin::new(receiver).poll(cx) {
                    return Poll::Ready(answer.unwrap_or_else(|_| Err(gone())).map(Some));
                }
                if self.alarm.id.is_some() && self.target.client.hosting.now() >= self.deadline {
                    let withdrawn = queued
                        .as_ref()
                        .is_some_and(|(slot, number)| slot.withdraw(*number));
                    return Poll::Ready(Err(Refusal::Timeout {
                        started: !withdrawn,
                    }));
                }
                self.alarm.arm(self.deadline, cx.waker());
                Poll::Pending
            }
            State::Routed(method, answer) => answer.as_mut().poll(cx).map(|answer| {
                let outcome = K::decode_outcome(*method, Codec::Msgpack, &answer?);
                outcome.map(Some).map_err(unwritable)
            }),
            State::Pausing(pause) => match pause.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(refusal)) => {
                    self.again = None;
                    Poll::Ready(Err(refusal))
                }
                Poll::Ready(Ok(())) => {
                    let (method, bytes, _) = self.again.as_ref().expect("only such calls pause");
                    let args = K::decode_args(*method, Codec::Msgpack, bytes);
                    let sent = args.map_err(unwritable).and_then(|args| self.send(args));
                    Poll::Ready(sent.map(|()| None))
                }
            },
        }
    }
}

impl<K: Handlers, T, E> Future for CallFuture<'_, K, T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.poll_step(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(outcome))) => {
                    let result = (self.pick)(outcome).expect("an outcome belongs to its method");
                    return Poll::Ready(result.map_err(CallError::Rejected));
                }
                Poll::Ready(Err(refusal)) => {
                    if let Some(refusal) = self.refused(refusal) {
                        return Poll::Ready(Err(refusal.widen()));
                    }
                }
            }
        }
    }
}

impl<K: Handlers, T, E> fmt::Debug for CallFuture<'_, K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallFuture({:?})", self.target)
    }
}
