//! What a node does with requests and notes of its peers: it serves what it owns and nothing else.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use actor_core::{
    Client, clock::Instant, error::Refusal, hosting::Hosting, mailbox::Effect, store::BoxFuture,
};
use tokio::sync::Notify;

use super::Peers;
use crate::node::{cluster::Changes, operations::report};
use crate::transport::{Answer, Call, Inbound, Note, OwnerHint, PeerId, Request};

/// Where requests arrive. It is made before what it leads to, because links open last.
#[derive(Default)]
pub(crate) struct Desk {
    hosting: OnceLock<Weak<Hosting>>,
    peers: OnceLock<Weak<Peers>>,
    changes: OnceLock<Changes>,
    /// A peer released shards or left: balancing should not wait for its turn.
    pub(crate) balance: Notify,
}

impl Desk {
    /// Says who does the work. Only the first call counts.
    pub(crate) fn staff(&self, hosting: &Arc<Hosting>, peers: &Arc<Peers>, changes: &Changes) {
        // Weak: links and node would keep one another.
        let _ = self.hosting.set(Arc::downgrade(hosting));
        let _ = self.peers.set(Arc::downgrade(peers));
        let _ = self.changes.set(changes.clone());
    }

    /// Does what a request asks for as the owner of its target's shard, or says who is. What can be
    /// decided at once is, before the future is polled.
    pub(crate) fn serve(
        self: &Arc<Self>,
        request: Request,
        within: Duration,
    ) -> BoxFuture<'static, Answer> {
        let Some(hosting) = self.hosting.get().and_then(Weak::upgrade) else {
            return at_once(Answer::Refused(Refusal::Unavailable(
                "the node is not up".into(),
            )));
        };
        match request {
            Request::Invoke(call) if hosting.locates(&call.invocation.kind) => {
                self.invoke(&hosting, call, within)
            }
            Request::Invoke(call) => {
                let (desk, deadline) = (self.clone(), hosting.now() + within);
                Box::pin(async move {
                    match hosting.locate(&call.invocation.kind, deadline).await {
                        Ok(()) => desk.invoke(&hosting, call, within).await,
                        Err(refusal) => Answer::Refused(refusal),
                    }
                })
            }
            Request::Commit(effect) => {
                let (desk, deadline) = (self.clone(), hosting.now() + within);
                Box::pin(async move { desk.commit(&hosting, effect, deadline).await })
            }
            Request::Report => at_once(self.report(&hosting)),
        }
    }

    /// Makes a call of a kind whose shards can be computed.
    fn invoke(
        &self,
        hosting: &Arc<Hosting>,
        call: Call,
        within: Duration,
    ) -> BoxFuture<'static, Answer> {
        let Call {
            mut invocation,
            request,
            chain,
            ..
        } = call;
        let shard = hosting.shard_of(&invocation.kind, invocation.id.as_str());
        if hosting.admits(shard).is_err() {
            return at_once(self.not_owner(shard));
        }
        // It is asked for again: nothing that waits for a lease holds up a link's window.
        if let Err(refusal) = hosting.admits_kind(&invocation.kind, shard) {
            return at_once(Answer::Refused(refusal));
        }
        let hosted = match hosting.hosted(&invocation.kind) {
            Ok(hosted) => hosted.clone(),
            Err(refusal) => return at_once(Answer::Refused(refusal)),
        };
        invocation.timeout = within;
        let mut client = Client::new(hosting.clone()).called_by(chain);
        if let Some(request) = request {
            client = client.with_request((*request).clone());
        }
        let answer = hosted.invoke(client, invocation);
        Box::pin(async move { answer.await.map_or_else(Answer::Refused, Answer::Outcome) })
    }

    /// Stores what is sent. Its target's shard is computed as its sender did: rows of kinds never
    /// change, so whoever has one computes alike, and whoever has not reads it.
    async fn commit(&self, hosting: &Arc<Hosting>, effect: Effect, deadline: Instant) -> Answer {
        let (kind, id) = effect.target();
        if let Err(refusal) = hosting.locate(kind, deadline).await {
            return Answer::Refused(refusal);
        }
        let shard = hosting.shard_of(kind, id);
        if hosting.admits(shard).is_err() {
            return self.not_owner(shard);
        }
        let stored = hosting.commit_here(effect, deadline).await;
        stored.map_or_else(Answer::Refused, Answer::Stored)
    }

    fn report(&self, hosting: &Hosting) -> Answer {
        let report = self.changes.get().map(|changes| report(hosting, changes));
        Answer::Report(report.unwrap_or_default())
    }

    fn not_owner(&self, shard: actor_core::ShardId) -> Answer {
        let peers = self.peers.get().and_then(Weak::upgrade);
        let owner = peers.and_then(|peers| {
            let owner = peers.map.owner(shard)?;
            // A shard that is about to leave has no next owner yet.
            (owner.peer != peers.me).then_some(owner)
        });
        Answer::NotOwner {
            owner: owner.map(|owner| OwnerHint {
                node: owner.peer.node,
                incarnation: owner.peer.incarnation,
                epoch: owner.epoch,
            }),
        }
    }
}

fn at_once(answer: Answer) -> BoxFuture<'static, Answer> {
    Box::pin(std::future::ready(answer))
}

/// The desk as links see it.
#[derive(Debug)]
pub(crate) struct Arrivals(pub(crate) Arc<Desk>);

impl Inbound for Arrivals {
    fn request(
        &self,
        _from: &PeerId,
        request: Request,
        within: Duration,
    ) -> BoxFuture<'static, Answer> {
        self.0.serve(request, within)
    }

    fn note(&self, from: &PeerId, note: Note) {
        let desk = &self.0;
        let (Some(hosting), Some(peers)) = (
            desk.hosting.get().and_then(Weak::upgrade),
            desk.peers.get().and_then(Weak::upgrade),
        ) else {
            return; // Not up yet: everything is looked at when it is.
        };
        match note {
            Note::Due {
                kind, id, due_in, ..
            } => hosting.ring(&kind, &id, due_in),
            Note::Event(event) => hosting.topics().announce(&Arc::new(event)),
            Note::Took(shards) => peers.map.learn(from, &shards),
            // Also said by a node whose operator wants everybody to look.
            Note::Released => desk.balance.notify_one(),
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}
