//! How simulated parts reach entities: over the simulation's network, at whichever node owns the
//! shard, again if that is certain to be harmless.
//!
//! What travels is what real links carry, as bytes: `transport::envelope`.

use std::{fmt, sync::Arc, time::Duration};

use actor_core::{
    clock::{Clock, Rng},
    entity::Encoded,
    error::Refusal,
    hosting::{self, Role},
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
use crate::{
    Node,
    transport::{Answer, Call, Request},
};

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
    async fn route(
        self,
        to: Address,
        deadline: actor_core::clock::Instant,
        repeatable: bool,
        request: Request,
    ) -> Result<Answer, Refusal> {
        let request: Arc<[u8]> = request.encode().into();
        let mut last = Refusal::Unavailable("no node owns the entity's shard".into());
        loop {
            let left = deadline.saturating_duration_since(Clock.now());
            if left.is_zero() {
                return Err(last);
            }
            if let Some(owner) = self.shared.owner(&to.kind, &to.id) {
                let (number, answer) =
                    self.shared
                        .send(self.part, self.clock.now(), owner, work(&request, left));
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
                        let bytes = parcel.downcast::<Vec<u8>>().expect("our own");
                        match Answer::decode(&bytes) {
                            Ok(Answer::Refused(refusal @ Refusal::Unavailable(_))) => refusal,
                            Ok(Answer::Refused(refusal @ Refusal::UnknownOutcome(_)))
                                if repeatable =>
                            {
                                refusal
                            }
                            Ok(Answer::Refused(refusal)) => return Err(refusal),
                            Ok(other) => return Ok(other),
                            Err(error) => return Err(unread(&error)),
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
    fn invoke(&self, call: RoutedCall) -> hosting::Answer {
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
        let call = Request::Invoke(Call {
            invocation,
            epoch: None,
            request,
        });
        Box::pin(async move {
            let trace = router.clone();
            let answer = match router.route(to, deadline, repeatable, call).await {
                Ok(Answer::Outcome(encoded)) => Ok(encoded),
                Ok(other) => Err(unread(&format_args!("{other:?}"))),
                Err(refusal) => Err(refusal),
            };
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
            let request = Request::Commit(effect);
            match router.route(to, deadline, repeatable, request).await? {
                Answer::Stored(position) => Ok(position),
                other => Err(unread(&format_args!("{other:?}"))),
            }
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

/// What the owner is to do with a request that reaches it while its sender has this much time left.
fn work(request: &Arc<[u8]>, left: Duration) -> Work {
    // The owner gives up first, because only it knows whether the handler began.
    let way_back = LATENCY_MIN + Duration::from_millis(LATENCY_SPREAD_MS);
    let within = left.saturating_sub(2 * way_back).max(left / 2);
    let request = request.clone();
    Box::new(move |node: Node| {
        Box::pin(async move {
            let answer = serve(&node, &request, within).await;
            Box::new(answer.unwrap_or_else(Answer::Refused).encode()) as _
        })
    })
}

/// Does what a request asks for as the owner of its target's shard, or refuses it: it is never sent
/// on.
async fn serve(node: &Node, request: &[u8], within: Duration) -> Result<Answer, Refusal> {
    let request = Request::decode(request, within)
        .map_err(|error| Refusal::Decode(error.to_string().into()))?;
    let hosting = node.hosting();
    match request {
        Request::Invoke(Call {
            invocation,
            request,
            ..
        }) => {
            let mut client = node.client();
            if let Some(request) = request {
                client = client.with_request((*request).clone());
            }
            hosting.admits(hosting.shard_of(&invocation.kind, invocation.id.as_str()))?;
            let hosted = hosting.hosted(&invocation.kind)?.clone();
            hosted.invoke(client, invocation).await.map(Answer::Outcome)
        }
        Request::Commit(effect) => {
            hosting.accepting()?;
            hosting.commit_here(effect).await.map(Answer::Stored)
        }
    }
}

fn unread(what: &dyn fmt::Display) -> Refusal {
    Refusal::UnknownOutcome(format!("the answer cannot be read: {what}").into())
}
