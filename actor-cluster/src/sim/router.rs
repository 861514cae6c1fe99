//! How simulated parts reach entities: over the simulation's network, at whichever node owns the
//! shard, again if that is certain to be harmless.

use std::{sync::Arc, time::Duration};

use actor_core::{
    Client,
    clock::{Clock, Rng},
    entity::Encoded,
    error::Refusal,
    hosting::{Answer, Role},
    id::CallIds,
    mailbox::Effect,
    router::{RoutedCall, Router},
    store::BoxFuture,
    topic::Position,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    machine::PartClock,
    network::{Broken, LATENCY_MIN, LATENCY_SPREAD_MS, Part, Work},
    shared::Shared,
};
use crate::Node;

/// The pause before something is sent again, +-50 %.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a stored message or an event may take to be accepted.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The router of one part.
#[derive(Clone, Debug)]
pub(super) struct SimRouter {
    shared: Arc<Shared>,
    part: Part,
    clock: PartClock,
    rng: Rng,
    ids: Arc<CallIds>,
}

/// Where something goes: what decides the shard.
#[derive(Clone, Debug)]
struct Address {
    kind: Arc<str>,
    id: Arc<str>,
}

/// How an attempt ended, for the trace.
type Verdict<'a> = &'a dyn std::fmt::Display;

impl SimRouter {
    pub(super) fn new(shared: Arc<Shared>, part: Part, clock: PartClock, rng: Rng) -> Self {
        let ids = Arc::new(CallIds::new(rng.bits()));
        Self {
            shared,
            part,
            clock,
            rng,
            ids,
        }
    }

    /// Sends work to the owner until it is done, refused for good, or `deadline` has passed.
    async fn route<T: Send + 'static>(
        self,
        to: Address,
        deadline: actor_core::clock::Instant,
        repeatable: bool,
        work: impl Fn(Duration) -> Work,
    ) -> Result<T, Refusal> {
        let mut last = Refusal::Unavailable("no node owns the entity's shard".into());
        loop {
            let left = deadline.saturating_duration_since(Clock.now());
            if left.is_zero() {
                return Err(last);
            }
            if let Some(owner) = self.shared.owner(&to.kind, &to.id) {
                let (number, answer) =
                    self.shared
                        .send(self.part, self.clock.now(), owner, work(left));
                self.trace(number, &format_args!("-> n{owner} {}/{}", to.kind, to.id));
                let answer = tokio::select! {
                    biased;
                    answer = answer => answer.unwrap_or(Err(Broken::Unanswered)),
                    () = Clock.sleep_until(deadline) => {
                        self.trace(number, &"has no answer in time");
                        return Err(Refusal::Timeout { started: true });
                    }
                };
                last = match answer {
                    Ok(parcel) => {
                        match *parcel.downcast::<Result<T, Refusal>>().expect("our own") {
                            Err(refusal @ Refusal::Unavailable(_)) => refusal,
                            other => return other,
                        }
                    }
                    Err(broken @ Broken::Unanswered) if !repeatable => {
                        return Err(Refusal::UnknownOutcome(broken.to_string().into()));
                    }
                    Err(broken) => Refusal::Unavailable(broken.to_string().into()),
                };
                self.trace(number, &format_args!("is sent again: {last}"));
            }
            let pause = self.rng.jitter(PAUSE, 50);
            Clock.sleep_until(deadline.min(Clock.now() + pause)).await;
        }
    }

    fn trace(&self, number: u64, what: Verdict<'_>) {
        let (now, part) = (self.clock.now(), self.part);
        self.shared
            .trace
            .add(now, format_args!("{part} call {number} {what}"));
    }
}

impl Router for SimRouter {
    fn invoke(&self, call: RoutedCall) -> Answer {
        let router = self.clone();
        let RoutedCall {
            mut invocation,
            role,
            deadline,
            request,
        } = call;
        // A durable target remembers the call, so that losing its answer does no harm.
        if role != Role::Entity && invocation.call.is_none() {
            invocation.call = Some(self.ids.next());
        }
        let repeatable = invocation.call.is_some() && role != Role::Entity;
        let to = Address {
            kind: invocation.kind.clone(),
            id: invocation.id.as_str().into(),
        };
        Box::pin(async move {
            let trace = router.clone();
            let answer: Result<Encoded, Refusal> = router
                .route(to, deadline, repeatable, move |left| {
                    let (mut invocation, request) = (invocation.clone(), request.clone());
                    // The owner gives up first, because only it knows whether the handler began.
                    let way_back = LATENCY_MIN + Duration::from_millis(LATENCY_SPREAD_MS);
                    invocation.timeout = left.saturating_sub(2 * way_back).max(left / 2);
                    Box::new(move |node: Node| {
                        Box::pin(async move {
                            let mut client = node.client();
                            if let Some(request) = request {
                                client = client.with_request((*request).clone());
                            }
                            Box::new(invoke_here(client, invocation).await) as _
                        })
                    })
                })
                .await;
            trace.trace_answer(&answer);
            answer
        })
    }

    fn commit(&self, effect: Effect) -> BoxFuture<'static, Result<Position, Refusal>> {
        let router = self.clone();
        let (kind, id) = effect.target();
        let to = Address {
            kind: kind.into(),
            id: id.into(),
        };
        // A stored message has an identity and is stored once; an event has none.
        let repeatable = matches!(effect, Effect::Send(_));
        Box::pin(async move {
            let deadline = Clock.now() + COMMIT_TIMEOUT;
            router
                .route(to, deadline, repeatable, move |_| {
                    let effect = effect.clone();
                    Box::new(move |node: Node| {
                        Box::pin(async move {
                            let hosting = node.hosting();
                            let stored: Result<Position, Refusal> = match hosting.accepting() {
                                Ok(()) => hosting.commit_here(effect).await,
                                Err(refusal) => Err(refusal),
                            };
                            Box::new(stored) as _
                        })
                    })
                })
                .await
        })
    }
}

impl SimRouter {
    fn trace_answer(&self, answer: &Result<Encoded, Refusal>) {
        let (now, part) = (self.clock.now(), self.part);
        let line = match answer {
            Ok(Encoded { ok, bytes }) => format!("learns {ok} {:016x}", xxh3_64(bytes)),
            Err(refusal) => format!("learns {refusal}"),
        };
        self.shared.trace.add(now, format_args!("{part} {line}"));
    }
}

/// Makes a call as the owner of its target's shard, or refuses it: it is never sent on.
async fn invoke_here(
    client: Client,
    invocation: actor_core::Invocation,
) -> Result<Encoded, Refusal> {
    let hosting = client.hosting().clone();
    hosting.admits(hosting.shard_of(&invocation.kind, invocation.id.as_str()))?;
    let hosted = hosting.hosted(&invocation.kind)?.clone();
    hosted.invoke(client, invocation).await
}
