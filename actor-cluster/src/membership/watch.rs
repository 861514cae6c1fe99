//! Watches the links for nodes that died, and tells the others (architecture D3).
//!
//! Not here: how many must have seen it, and who is believed; that is judged in SQL, by
//! [`actor_core::store::suspicions`].

use actor_core::store::{
    StoreError,
    suspicions::{self, Declared},
};
use tokio::sync::broadcast::error::RecvError;

use super::{
    Loss,
    task::{Member, named},
};
use crate::node::cluster::What;
use crate::transport::{DialFailure, LinkEvent, Note, PeerId};

impl Member {
    /// Testifies when a peer is seen dead: a link to it ended, and where it listened nobody answers
    /// any more, or another life of it does (architecture D3). Stops serving if this node cannot
    /// be dialled any more.
    pub(crate) async fn keep_watch(self) {
        let Some(peers) = self.peers.clone() else {
            return;
        };
        let mut events = peers.links.events();
        loop {
            // Asked and not only told: it may have been lost before this began to listen, or be
            // among news that were too many. Whoever gets the port next could speak in its name.
            if !peers.links.is_listening() {
                return self.drop_everything(Loss::Unreachable).await;
            }
            let seen = match events.recv().await {
                Ok(LinkEvent::Unreached {
                    peer,
                    why,
                    had_link: true,
                }) if is_death(&peer, &why) => peer,
                // What shows a death comes again with the next dial.
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            match self.testify(&seen).await {
                Ok(Declared::Dead) => {
                    tracing::warn!(peer = %seen, "declared dead before its lease ran out");
                    metrics::counter!("actor_deaths_declared_total").increment(1);
                    let (node, incarnation) = named(&seen);
                    self.changes.note(What::DeclaredDead { node, incarnation });
                    peers.tell_all(&Note::Released);
                    peers.desk.balance.notify_one();
                }
                Ok(Declared::Undecided | Declared::Ended) => {}
                Err(error) => tracing::warn!(%error, peer = %seen, "a death could not be told"),
            }
        }
    }

    async fn testify(&self, seen: &PeerId) -> Result<Declared, StoreError> {
        let (me, ttl) = ((self.node().clone(), self.incarnation()), self.terms.ttl);
        let suspect = (seen.node.clone(), seen.incarnation);
        let declared = self.hosting.store().write("declare dead", move |c| {
            Box::pin(async move { suspicions::declare(c, &suspect, &me, ttl).await })
        });
        declared.await
    }

    /// Whoever testified against this life of the node was wrong: it is here.
    pub(super) async fn doubt_witnesses(&self) {
        let me = (self.node().clone(), self.incarnation());
        let doubted = self.hosting.store().write("doubt witnesses", move |c| {
            Box::pin(async move { suspicions::doubt_witnesses(c, &me).await })
        });
        if let Err(error) = doubted.await {
            tracing::warn!(%error, "false witnesses could not be noted");
        }
    }
}

/// Says whether a failed dial shows that this life of the peer is over.
fn is_death(peer: &PeerId, why: &DialFailure) -> bool {
    match why {
        DialFailure::Refused => true,
        DialFailure::Other(other) => other.node == peer.node,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shows_that_the_process_is_gone_is_a_death() {
        let peer = PeerId::new("a", 3);
        let table = [
            (DialFailure::Refused, true),
            (DialFailure::Other(PeerId::new("a", 4)), true),
            (DialFailure::Other(PeerId::new("b", 4)), false),
            (DialFailure::TimedOut, false),
            (DialFailure::Unreachable("no route".into()), false),
            (DialFailure::Unauthenticated, false),
            (DialFailure::Leaving, false),
            (DialFailure::Garbage("http".into()), false),
        ];

        for (why, death) in table {
            assert_eq!(is_death(&peer, &why), death, "{why}");
        }
    }
}
