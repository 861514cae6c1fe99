//! What a node does with requests and notes of its peers: it serves what it owns and nothing else.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use actor_core::{Client, client::Invocation, error::Refusal, hosting::Hosting, store::BoxFuture};
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

    /// Does what a request asks for as the owner of its target's shard, or says who is.
    pub(crate) async fn serve(&self, request: Request, within: Duration) -> Answer {
        let Some(hosting) = self.hosting.get().and_then(Weak::upgrade) else {
            return Answer::Refused(Refusal::Unavailable("the node is not up".into()));
        };
        let answer = match request {
            Request::Invoke(Call {
                mut invocation,
                request,
                chain,
                ..
            }) => {
                if let Err(refusal) = locate(&hosting, &invocation.kind, within).await {
                    return Answer::Refused(refusal);
                }
                let shard = hosting.shard_of(&invocation.kind, invocation.id.as_str());
                if hosting.admits(shard).is_err() {
                    return self.not_owner(shard);
                }
                // It is asked for again: nothing that waits for a lease holds up a link's window.
                if let Err(refusal) = hosting.admits_kind(&invocation.kind, shard) {
                    return Answer::Refused(refusal);
                }
                invocation.timeout = within;
                let mut client = Client::new(hosting.clone()).called_by(chain);
                if let Some(request) = request {
                    client = client.with_request((*request).clone());
                }
                invoke(&hosting, client, invocation).await
            }
            Request::Commit(effect) => {
                let (kind, id) = effect.target();
                if let Err(refusal) = locate(&hosting, kind, within).await {
                    return Answer::Refused(refusal);
                }
                let shard = hosting.shard_of(kind, id);
                if hosting.admits(shard).is_err() {
                    return self.not_owner(shard);
                }
                hosting.commit_here(effect).await.map(Answer::Stored)
            }
            Request::Report => Ok(self.report(&hosting)),
        };
        answer.unwrap_or_else(Answer::Refused)
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

/// Makes sure that a target's shard is computed as its sender did: rows of kinds never change, so
/// whoever has one computes alike, and whoever has not reads it.
async fn locate(hosting: &Hosting, kind: &str, within: Duration) -> Result<(), Refusal> {
    hosting.locate(kind, hosting.now() + within).await
}

async fn invoke(
    hosting: &Arc<Hosting>,
    client: Client,
    invocation: Invocation,
) -> Result<Answer, Refusal> {
    let hosted = hosting.hosted(&invocation.kind)?.clone();
    hosted.invoke(client, invocation).await.map(Answer::Outcome)
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
        let desk = self.0.clone();
        Box::pin(async move { desk.serve(request, within).await })
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
