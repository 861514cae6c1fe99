//! What goes wrong with requests and notes though their links are up, and a line of the trace for
//! each of them.

use std::{fmt, sync::Arc, time::Duration};

use actor_core::{clock::Clock, error::Refusal, mailbox::Effect, store::BoxFuture};
use xxhash_rust::xxh3::xxh3_64;

use super::{machine::PartClock, network::Part, shared::Shared};
use crate::transport::{Answer, Inbound, Note, PeerId, Request};

/// How long a lost request holds its part of the link's window.
const LOST_FOR: Duration = Duration::from_secs(300);

/// What may happen to requests and notes between nodes, in percent; default: nothing.
///
/// ```
/// use actor_cluster::sim::Traffic;
/// use std::time::Duration;
///
/// let bad = Traffic::default().lose(2).double(5).delay(10, Duration::from_millis(300));
/// # drop(bad);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to `Sim::traffic`"]
pub struct Traffic {
    lost: u64,
    doubled: u64,
    delayed: u64,
    delay: Duration,
}

impl Traffic {
    /// Loses that many of a hundred: a request is never answered, a note never read.
    pub fn lose(mut self, percent: u64) -> Self {
        self.lost = percent;
        self
    }

    /// Lets that many of a hundred arrive twice. Of requests only those with an identity: nothing
    /// else is ever sent again.
    pub fn double(mut self, percent: u64) -> Self {
        self.doubled = percent;
        self
    }

    /// Lets that many of a hundred notes arrive up to `most` later, after what was sent after them.
    pub fn delay(mut self, percent: u64, most: Duration) -> Self {
        (self.delayed, self.delay) = (percent, most);
        self
    }
}

/// Stands between the links of a part and the part.
#[derive(Debug)]
pub(super) struct SimInbound {
    pub(super) shared: Arc<Shared>,
    pub(super) part: Part,
    pub(super) clock: PartClock,
    pub(super) inbound: Arc<dyn Inbound>,
}

impl SimInbound {
    fn falls(&self, percent: u64) -> bool {
        percent > 0 && self.shared.rng.below(100) < percent
    }

    fn trace(&self, line: fmt::Arguments<'_>) {
        let at = self.clock.now();
        self.shared
            .trace
            .add(at, format_args!("{} {line}", self.part));
    }
}

impl Inbound for SimInbound {
    fn request(
        &self,
        from: &PeerId,
        request: Request,
        within: Duration,
    ) -> BoxFuture<'static, Answer> {
        let (traffic, what) = (self.shared.traffic(), described(&request));
        if self.falls(traffic.lost) {
            self.trace(format_args!("<- {} {what}: lost", from.node));
            return Box::pin(async {
                Clock.sleep(LOST_FOR).await;
                Answer::Refused(Refusal::UnknownOutcome("it was lost".into()))
            });
        }
        self.trace(format_args!("<- {} {what}", from.node));
        let answer = self.inbound.request(from, request.clone(), within);
        let doubled = has_identity(&request) && self.falls(traffic.doubled);
        let again = doubled.then(|| self.inbound.request(from, request, within));
        let (shared, part, clock, from) =
            (self.shared.clone(), self.part, self.clock, from.clone());
        Box::pin(async move {
            if let Some(again) = again {
                tokio::spawn(again);
            }
            let answer = answer.await;
            let line = outcome(&answer);
            shared.trace.add(
                clock.now(),
                format_args!("{part} -> {} {what}: {line}", from.node),
            );
            answer
        })
    }

    fn note(&self, from: &PeerId, note: Note) {
        let traffic = self.shared.traffic();
        if self.falls(traffic.lost) {
            return self.trace(format_args!("<- {} {}: lost", from.node, noted(&note)));
        }
        self.trace(format_args!("<- {} {}", from.node, noted(&note)));
        if self.falls(traffic.delayed) {
            let (inbound, from) = (self.inbound.clone(), from.clone());
            let most = u64::try_from(traffic.delay.as_millis()).unwrap_or(u64::MAX);
            let late = Duration::from_millis(self.shared.rng.below(most));
            tokio::spawn(async move {
                Clock.sleep(late).await;
                inbound.note(&from, note);
            });
            return;
        }
        if self.falls(traffic.doubled) {
            self.inbound.note(from, note.clone());
        }
        self.inbound.note(from, note);
    }
}

fn has_identity(request: &Request) -> bool {
    match request {
        Request::Invoke(call) => call.invocation.call.is_some(),
        Request::Commit(effect) => matches!(effect, Effect::Send(_)),
        Request::Report => true,
    }
}

fn described(request: &Request) -> String {
    match request {
        Request::Invoke(call) => {
            let it = &call.invocation;
            format!("{}/{}.{}", it.kind, it.id, it.method)
        }
        Request::Commit(effect) => {
            let (kind, id) = effect.target();
            format!("store {kind}/{id}")
        }
        Request::Report => "report".to_owned(),
    }
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Answer::Outcome(encoded) if encoded.ok => format!("{:016x}", xxh3_64(&encoded.bytes)),
        Answer::Outcome(encoded) => format!("err {:016x}", xxh3_64(&encoded.bytes)),
        Answer::Stored(_) => "stored".to_owned(),
        Answer::NotOwner { owner: None } => "not the owner".to_owned(),
        Answer::NotOwner { owner: Some(hint) } => format!("{} owns it", hint.node),
        Answer::Refused(refusal) => refusal.to_string(),
        Answer::Report(_) => "a report".to_owned(),
    }
}

fn noted(note: &Note) -> String {
    match note {
        Note::Due { kind, id, .. } => format!("due {kind}/{id}"),
        Note::Event(event) => format!("event on {}", event.topic),
        Note::Took(shards) => format!("took {} shards", shards.len()),
        Note::Released => "released".to_owned(),
    }
}
