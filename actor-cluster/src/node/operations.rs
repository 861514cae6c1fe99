//! What an operator does to a cluster, from whichever node is asked: drain a node, call it back,
//! rebalance, and ask all nodes what they are doing.
//!
//! What is asked of a node is written in its row, so it counts even while no link to it is up; a
//! note only makes everybody look at once. Not here: what a node does when it finds its row changed
//! ([`crate::membership`]).

use std::time::Duration;

use actor_core::{
    clock::Clock,
    codec::Codec,
    hosting::Hosting,
    id::NodeId,
    store::{StoreError, nodes},
};
use futures_util::future::join_all;
use serde::Serialize;

use super::{
    Node,
    cluster::{Change, Changes},
};
use crate::{
    routing::Peers,
    transport::{Answer, Note, PeerId, Request},
};

/// How long a node may take to say what it does, for operators who look.
const REPORT_WITHIN: Duration = Duration::from_millis(500);

/// What a node says it is doing. Written as JSON, so that nodes of two releases show what they know
/// of one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The shards that leave it and take nothing new, sorted.
    pub moving: Vec<u32>,
    /// Messages that run or wait in its mailboxes.
    pub running: usize,
    /// What changed there lately, the newest first.
    pub changes: Vec<Change>,
}

/// What one node of the cluster said it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// Which life of which node.
    pub of: PeerId,
    /// A [`Report`] as JSON; `None` if it did not answer in time.
    pub report: Option<Vec<u8>>,
}

impl Node {
    /// Lets the node of this name rest: it gives its shards to the others, lets what runs in them
    /// end, and is not ready any more; it goes on as a way to the others. Returns which life was
    /// asked; `None` if no such node is up. Asking again changes nothing. It takes shards again
    /// after [`Node::call_back`], or when its program starts anew. Who nobody could take over from
    /// keeps its shards.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn send_to_rest(&self, node: &NodeId) -> Result<Option<PeerId>, StoreError> {
        self.set_resting(node, true).await
    }

    /// Lets a node that rests take shards again. Returns as [`Node::send_to_rest`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn call_back(&self, node: &NodeId) -> Result<Option<PeerId>, StoreError> {
        self.set_resting(node, false).await
    }

    /// Lets every node that is linked with this one compare now who owns what with who should.
    /// Returns how many other nodes were told; whoever was not looks within a tenth of a lease.
    pub fn rebalance(&self) -> usize {
        let Some(peers) = self.peers() else {
            return 0;
        };
        let told = peers.tell_all(&Note::Released);
        peers.desk.balance.notify_one();
        told
    }

    /// Asks all nodes what they are doing, this one first.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn reports(&self) -> Vec<Said> {
        let own = PeerId {
            node: self.name().clone(),
            incarnation: self.incarnation(),
        };
        let report = report(self.hosting(), &self.inner.changes);
        let mut said = vec![Said {
            of: own,
            report: Some(report),
        }];
        if let Some(peers) = self.peers() {
            said.extend(peers.reports().await);
        }
        said
    }

    async fn set_resting(&self, node: &NodeId, rests: bool) -> Result<Option<PeerId>, StoreError> {
        let name = node.clone();
        let asked = self
            .hosting()
            .store()
            .write("ask a node to rest", move |c| {
                Box::pin(async move { nodes::set_resting(c, &name, rests).await })
            });
        let asked = asked.await?.map(|incarnation| PeerId {
            node: node.clone(),
            incarnation,
        });
        if asked.is_some() {
            self.rebalance();
        }
        Ok(asked)
    }
}

impl Peers {
    async fn reports(&self) -> Vec<Said> {
        let deadline = Clock.now() + REPORT_WITHIN;
        let peers = self.map.peers();
        let others = peers.iter().filter(|peer| peer.id != self.me);
        let asked = others.map(|peer| async move {
            let answer = self.links.ask(&peer.id, &Request::Report, deadline).await;
            let report = match answer {
                Ok(Answer::Report(report)) => Some(report),
                // Not linked, too slow, or older than the question.
                _ => None,
            };
            let of = peer.id.clone();
            Said { of, report }
        });
        join_all(asked).await
    }
}

impl Report {
    /// Returns what a node is doing, but for its changes.
    pub fn of(hosting: &Hosting) -> Self {
        let shards = hosting.shards();
        let owned = shards.owned().into_iter().map(|(shard, _)| shard);
        Self {
            moving: owned
                .filter(|shard| !shards.serves(*shard))
                .map(|shard| shard.0)
                .collect(),
            running: hosting.kinds().map(|kind| kind.stats().mailbox_depth).sum(),
            changes: Vec::new(),
        }
    }
}

/// Returns what this node is doing, as JSON.
pub(crate) fn report(hosting: &Hosting, changes: &Changes) -> Vec<u8> {
    let report = Report {
        changes: changes.latest(),
        ..Report::of(hosting)
    };
    // It holds nothing that could not be written.
    Codec::Json.encode(&report).unwrap_or_default()
}
