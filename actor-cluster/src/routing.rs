//! How calls and stored messages find the owner of their target's shard, over node links.
//!
//! Route by the map, execute by the lease, look again on `NotOwner`: callers wait instead of
//! failing (architecture D4). What may have been begun is sent again only if its target remembers
//! it (D19). Not here: bytes and links (`transport`), and who should own what (`shard`).

pub(crate) mod inbound;
pub(crate) mod map;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use actor_core::{
    clock::{Clock, Instant, Rng},
    error::Refusal,
    groups::Groups,
    hosting::{self, Role},
    id::{CallIds, EntityId, GroupId, Incarnation, NodeId, ShardId},
    mailbox::Effect,
    recall::Recall,
    router::{RoutedCall, Router},
    store::{BoxFuture, kinds::Catalog, nodes::NodeRow, ownership::ShardRow},
    topic::{Position, TopicEvent},
};

use self::{inbound::Desk, map::OwnerMap};
use crate::shard::candidates::is_member;
use crate::transport::{Answer, Call, Note, Peer, PeerId, Request, Transport, Unanswered};

/// The longest pause before something is sent again, +-50 %; a change of the map ends it early.
const PAUSE: Duration = Duration::from_millis(50);

/// What the parts of one life of a node share to reach the others.
pub(crate) struct Peers {
    pub(crate) me: PeerId,
    pub(crate) links: Arc<dyn Transport>,
    pub(crate) map: OwnerMap,
    pub(crate) desk: Arc<Desk>,
    pub(crate) groups: Arc<Groups>,
    rng: Rng,
    ids: CallIds,
}

/// What is sent, and where to.
struct Parcel {
    shard: ShardId,
    deadline: Instant,
    /// Whether doing it twice counts once.
    repeatable: bool,
    request: Request,
}

impl Peers {
    pub(crate) fn new(
        me: PeerId,
        groups: Arc<Groups>,
        links: Arc<dyn Transport>,
        desk: Arc<Desk>,
        rng: Rng,
    ) -> Self {
        Self {
            me,
            links,
            map: OwnerMap::new(groups.all()),
            desk,
            groups,
            ids: CallIds::new(rng.bits()),
            rng,
        }
    }

    /// Takes over what was read: lets calls find the owners, and keeps links to the nodes that are
    /// there. Returns the nodes that came and those that went since the last look.
    pub(crate) fn see(&self, nodes: &[NodeRow], shards: &[ShardRow]) -> (Vec<PeerId>, Vec<PeerId>) {
        // A node that drains is asked until it is gone.
        let holds = |row: &&NodeRow| !row.lease_left.is_zero() && !row.address.is_empty();
        let there: Vec<_> = nodes.iter().filter(holds).map(peer).collect();
        let known = self.map.peers();
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for former in known.iter().filter(|former| !there.contains(former)) {
            self.links.forget(&former.id);
            went.push(former.id.clone());
        }
        for peer in there.iter().filter(|peer| peer.id != self.me) {
            self.links.connect(peer.clone());
            if !known.contains(peer) {
                came.push(peer.id.clone());
            }
        }
        let owner = |(node, incarnation): &(NodeId, Incarnation)| PeerId {
            node: node.clone(),
            incarnation: *incarnation,
        };
        let rows = shards
            .iter()
            .map(|row| (row.shard, row.epoch, row.owner.as_ref().map(owner)));
        self.map.replace(&rows.collect::<Vec<_>>(), there);
        self.map.set_manned(manned(nodes, &self.groups.catalog()));
        (came, went)
    }

    /// Tells every linked peer; one that cannot be told finds out at its next look. Returns how
    /// many were told, as far as is known: notes may get lost.
    pub(crate) fn tell_all(&self, note: &Note) -> usize {
        let peers = self.map.peers();
        let others = peers.iter().filter(|peer| peer.id != self.me);
        others
            .filter(|peer| self.links.tell(&peer.id, note).is_ok())
            .count()
    }

    fn shard_of(&self, kind: &str, id: &str) -> ShardId {
        self.groups.shard_of(kind, id)
    }

    /// Says why a parcel was not delivered in time. The row of a shard names its last owner for as
    /// long as nobody may take it, so that owner's silence is not the reason.
    fn undelivered(&self, shard: ShardId, last: Refusal) -> Refusal {
        let manned = self.map.is_manned(shard.group(self.groups.count()));
        match last {
            Refusal::Unavailable(_) if !manned => {
                let group = self.groups.name_of(shard);
                Refusal::Unavailable(format!("no node of the group `{group}` is up").into())
            }
            last => last,
        }
    }

    /// Sends a parcel to its owner until it is done, refused for good, or its time is over.
    async fn route(&self, parcel: Parcel) -> Result<Answer, Refusal> {
        let mut last = Refusal::Unavailable("no node owns the entity's shard".into());
        loop {
            let left = parcel.deadline.saturating_duration_since(Clock.now());
            if left.is_zero() {
                return Err(self.undelivered(parcel.shard, last));
            }
            let seen = self.map.news().version();
            if let Some(owner) = self.map.owner(parcel.shard) {
                match self.ask(&owner.peer, &parcel, left).await? {
                    Ok(answer) => return Ok(answer),
                    Err(again) => last = again,
                }
            }
            // Boxed like all that is rare: a call that is answered at once stays small.
            Box::pin(self.pause(seen, parcel.deadline)).await;
        }
    }

    /// Waits before something is sent again: until the map is another than the one that was `seen`,
    /// for a while at most.
    async fn pause(&self, seen: u64, deadline: Instant) {
        let pause = Clock.now() + self.rng.jitter(PAUSE, 50);
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.map.news().after(seen) => {}
            () = Clock.sleep_until(deadline.min(pause)) => {}
        }
    }

    /// Asks `owner` once. The outer error is final, the inner one says why to ask again.
    async fn ask(
        &self,
        owner: &PeerId,
        parcel: &Parcel,
        left: Duration,
    ) -> Result<Result<Answer, Refusal>, Refusal> {
        let answer = if *owner == self.me {
            // It came here while the parcel waited.
            Ok(self.desk.serve(parcel.request.clone(), left).await)
        } else {
            let asked = self.links.ask(owner, &parcel.request, parcel.deadline);
            asked.await
        };
        match answer {
            Ok(Answer::NotOwner { owner }) => {
                if let Some(hint) = owner {
                    let peer = PeerId {
                        node: hint.node,
                        incarnation: hint.incarnation,
                    };
                    self.map.learn(&peer, &[(parcel.shard, hint.epoch)]);
                }
                let why = format!("shard {} is between two owners", parcel.shard);
                Ok(Err(Refusal::Unavailable(why.into())))
            }
            Ok(Answer::Refused(refusal @ Refusal::Unavailable(_))) => Ok(Err(refusal)),
            Ok(Answer::Refused(refusal @ Refusal::UnknownOutcome(_))) if parcel.repeatable => {
                Ok(Err(refusal))
            }
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(answer) => Ok(Ok(answer)),
            Err(unanswered) => match unanswered {
                Unanswered::NotLinked(_) => Ok(Err(unanswered.refusal())),
                Unanswered::Lost(_) if parcel.repeatable => Ok(Err(unanswered.refusal())),
                other => Err(other.refusal()),
            },
        }
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers(of {})", self.me)
    }
}

/// The router of a node with links.
#[derive(Clone, Debug)]
pub(crate) struct LinkRouter(pub(crate) Arc<Peers>);

impl Router for LinkRouter {
    fn invoke(&self, call: RoutedCall) -> hosting::Answer {
        let peers = self.0.clone();
        let RoutedCall {
            mut invocation,
            role,
            idempotent,
            deadline,
            request,
            chain,
        } = call;
        // A durable target remembers the call, so that losing its answer does no harm.
        if role != Role::Entity && invocation.call.is_none() {
            (invocation.call, invocation.recall) = (Some(peers.ids.next()), Recall::Brief);
        }
        let parcel = Parcel {
            shard: peers.shard_of(&invocation.kind, invocation.id.as_str()),
            deadline,
            repeatable: idempotent || invocation.call.is_some() && role != Role::Entity,
            request: Request::Invoke(Call {
                invocation,
                epoch: None,
                request,
                chain,
            }),
        };
        Box::pin(async move {
            match peers.route(parcel).await? {
                Answer::Outcome(encoded) => Ok(encoded),
                other => Err(unread(&other)),
            }
        })
    }

    fn commit(
        &self,
        effect: Effect,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Position, Refusal>> {
        let peers = self.0.clone();
        let (kind, id) = effect.target();
        let parcel = Parcel {
            shard: peers.shard_of(kind, id),
            deadline,
            // A stored message has an identity and is stored once; an event has none.
            repeatable: matches!(effect, Effect::Send(_)),
            request: Request::Commit(effect),
        };
        Box::pin(async move {
            match peers.route(parcel).await? {
                Answer::Stored(position) => Ok(position),
                other => Err(unread(&other)),
            }
        })
    }

    fn wake(&self, kind: &str, id: &EntityId, due_in: Duration) {
        let shard = self.0.shard_of(kind, id.as_str());
        let Some(owner) = self.0.map.owner(shard).filter(|it| it.peer != self.0.me) else {
            return; // Whoever takes the shard reads what waits there.
        };
        let note = Note::Due {
            shard,
            kind: kind.into(),
            id: id.clone(),
            due_in,
        };
        // Lost notes cost time: the owner's next poll finds the row.
        let _ = self.0.links.tell(&owner.peer, &note);
    }

    fn announce(&self, event: &TopicEvent) {
        self.0.tell_all(&Note::Event(event.clone()));
    }
}

/// Returns the groups of which a node is there.
fn manned(nodes: &[NodeRow], catalog: &Catalog) -> BTreeSet<GroupId> {
    let groups = (0..).map(GroupId).zip(catalog.groups());
    let groups = groups.map(|(group, _)| group);
    let there = |group: &GroupId| {
        let mut there = nodes.iter().filter(|row| !row.lease_left.is_zero());
        there.any(|row| row.weight > 0 && is_member(row, *group, catalog))
    };
    groups.filter(there).collect()
}

fn peer(row: &NodeRow) -> Peer {
    Peer {
        id: PeerId {
            node: row.node.clone(),
            incarnation: row.incarnation,
        },
        address: row.address.as_str().into(),
    }
}

fn unread(answer: &Answer) -> Refusal {
    Refusal::UnknownOutcome(format!("the answer makes no sense: {answer:?}").into())
}
