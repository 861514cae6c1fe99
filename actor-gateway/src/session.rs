//! One supervised actor per WebSocket, speaking JSON-RPC 2.0.
//!
//! A socket has three bounded parts: the reader (`upgrade.rs`) takes messages in and pauses when
//! the actor falls behind; the actor, here, decides what each message means and keeps its calls
//! (`calls.rs`); the writer (`outbound.rs`) hands answers and events to the socket and closes it
//! when the client is too slow. A malformed message costs that message.

pub(crate) mod answer;
mod calls;
mod outbound;
mod raw;
pub(crate) mod registry;
mod requests;
pub(crate) mod upgrade;
mod work;

use std::{collections::BTreeMap, sync::Arc};

use actor_core::Refusal;
use futures_util::stream::{AbortHandle, AbortRegistration};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::{
    answer::Wire,
    calls::{Calls, Serial},
    outbound::Outbound,
    requests::{Id, Malformed, Operation, Request},
};
use crate::{gateway::Shared, rejection::Rejection, request::Caller};

/// The session actor.
pub(crate) struct Session;

/// What a session is told.
pub(crate) enum Notice {
    /// The client sent this; the permit bounds how much waits here.
    Received(Result<Request, Malformed>, OwnedSemaphorePermit),
    /// A call ended; a subscription that failed is to be forgotten.
    Done(Serial, Option<Place>),
    /// The node drains: take nothing new, end when the calls have ended.
    Drain,
}

impl Message for Notice {}

/// What a session is born with.
pub(crate) struct Birth {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
    pub(crate) wire: Wire,
    pub(crate) outbound: mpsc::Sender<Outbound>,
}

/// A subscription's place: its topic, and a number that tells it from a later one of that topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    topic: Arc<str>,
    number: u64,
}

/// What a session keeps.
pub(crate) struct State {
    shared: Arc<Shared>,
    caller: Caller,
    wire: Wire,
    outbound: mpsc::Sender<Outbound>,
    calls: Calls,
    /// The topics listened to, with the end of each.
    subscriptions: BTreeMap<Arc<str>, (u64, AbortHandle)>,
    next_place: u64,
    draining: bool,
}

impl Actor for Session {
    type Msg = Notice;
    type State = State;
    type Arguments = Birth;

    async fn pre_start(
        &self,
        myself: ActorRef<Notice>,
        birth: Birth,
    ) -> Result<State, ActorProcessingErr> {
        let max = birth.shared.limits.calls_max;
        Ok(State {
            calls: Calls::new(max, myself, birth.wire, birth.outbound.clone()),
            shared: birth.shared,
            caller: birth.caller,
            wire: birth.wire,
            outbound: birth.outbound,
            subscriptions: BTreeMap::new(),
            next_place: 0,
            draining: false,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Notice>,
        notice: Notice,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match notice {
            Notice::Received(Ok(request), _permit) => state.receive(request).await,
            Notice::Received(Err(malformed), _permit) => {
                let Malformed {
                    id,
                    code,
                    rejection,
                } = malformed;
                let frame = state.wire.failure(id.as_ref(), Some(code), &rejection);
                state.send(Outbound::Frame(frame)).await;
            }
            Notice::Done(serial, forgotten) => {
                let more = state.calls.done(serial);
                forgotten
                    .iter()
                    .chain(&more)
                    .for_each(|place| state.give_up(place));
            }
            Notice::Drain => state.draining = true,
        }
        if state.draining && state.calls.is_empty() {
            state.send(Outbound::Close(outbound::Close::Restart)).await;
        }
        Ok(())
    }
}

impl State {
    async fn receive(&mut self, request: Request) {
        let Request { id, operation } = request;
        if self.draining {
            let refusal = Refusal::Unavailable("the node is draining".into());
            return self.refuse(id.as_ref(), &refusal.into()).await;
        }
        match operation {
            Operation::Ping => self.succeed(id.as_ref(), &"pong").await,
            Operation::Cancel { id: target } => {
                let (abandoned, forgotten) = self.calls.cancel(&target);
                forgotten.iter().for_each(|place| self.give_up(place));
                if abandoned {
                    let why = "the client stopped waiting".into();
                    self.refuse(Some(&target), &Refusal::UnknownOutcome(why).into())
                        .await;
                }
                let outcome = BTreeMap::from([("cancelled", abandoned)]);
                self.succeed(id.as_ref(), &outcome).await;
            }
            Operation::Unsubscribe { topic } => {
                let found = self.forget(&topic);
                let outcome = BTreeMap::from([("unsubscribed", found)]);
                self.succeed(id.as_ref(), &outcome).await;
            }
            operation => self.begin(id, operation).await,
        }
    }

    /// Starts an operation that takes time.
    async fn begin(&mut self, id: Option<Id>, operation: Operation) {
        if let Err(rejection) = self.calls.has_room(id.as_ref()) {
            // A second request under a live id must not be mistaken for the first one's answer.
            let id = id.filter(|_| rejection.kind() == "overloaded");
            return self.refuse(id.as_ref(), &rejection).await;
        }
        let work = match operation {
            Operation::Subscribe { topic, since } => match self.reserve(&topic) {
                Ok((place, end)) => work::subscribe(&self.shared, &self.caller, place, since, end),
                Err(rejection) => return self.refuse(id.as_ref(), &rejection).await,
            },
            operation => work::of(&self.shared, &self.caller, operation),
        };
        let forgotten = self.calls.begin(id, work);
        forgotten.iter().for_each(|place| self.give_up(place));
    }

    /// Takes the place of a subscription.
    fn reserve(&mut self, topic: &Arc<str>) -> Result<(Place, AbortRegistration), Rejection> {
        if self.subscriptions.contains_key(topic) {
            let text = format!("`{topic}` is subscribed already: unsubscribe first");
            return Err(Rejection::new("decode", text));
        }
        let most = self.shared.limits.subscriptions_max;
        if self.subscriptions.len() >= most {
            let text = format!("a session has at most {most} subscriptions");
            return Err(Rejection::new("too_large", text));
        }
        let (handle, registration) = AbortHandle::new_pair();
        let number = self.next_place;
        self.next_place += 1;
        self.subscriptions.insert(topic.clone(), (number, handle));
        Ok((
            Place {
                topic: topic.clone(),
                number,
            },
            registration,
        ))
    }

    /// Ends a subscription; says whether there was one.
    fn forget(&mut self, topic: &str) -> bool {
        let found = self.subscriptions.remove(topic);
        found.inspect(|(_, handle)| handle.abort()).is_some()
    }

    /// Ends a subscription that did not come about, unless the topic was subscribed anew meanwhile.
    fn give_up(&mut self, place: &Place) {
        if self
            .subscriptions
            .get(&place.topic)
            .is_some_and(|(number, _)| *number == place.number)
        {
            self.forget(&place.topic);
        }
    }

    async fn succeed(&mut self, id: Option<&Id>, outcome: &(impl serde::Serialize + Sync)) {
        if let Some(id) = id {
            self.send(Outbound::Frame(self.wire.success_of(id, outcome)))
                .await;
        }
    }

    async fn refuse(&mut self, id: Option<&Id>, rejection: &Rejection) {
        let frame = self.wire.failure(id, None, rejection);
        self.send(Outbound::Frame(frame)).await;
    }

    /// Queues for the writer; waits while its queue is full. A writer that is gone ends the session
    /// from outside.
    async fn send(&mut self, outbound: Outbound) {
        drop(self.outbound.send(outbound).await);
    }
}
