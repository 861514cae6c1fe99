//! Keeps the lease and balances the shards of one life of a node.
//!
//! Two tasks, so that a slow balance never delays a renewal. Not used where an operating system
//! lock stands for the node's life.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::{
    clock::{Clock, Instant},
    hosting::Hosting,
    id::{Epoch, Incarnation, NodeId, ShardId},
    store::{
        StoreError, StoreErrorKind, declined,
        kinds::{self, Catalog},
        mailbox,
        nodes::{self, NodeRow, NodeState},
        ownership::{self, ShardRow, Taken},
    },
};
use tokio::{sync::watch, task::JoinSet};

use super::{Action, Event, Lease, Loss, Terms, pace::Pace, sightings::Sightings, step};
use crate::{
    node::{
        Phase,
        cluster::{Changes, What, took},
    },
    routing::Peers,
    shard::{candidates, placement},
    transport::PeerId,
};

/// How often a takeover that met a locked row is tried at a time, and the wait between.
const TAKE_TRIES: u32 = 8;
const TAKE_AGAIN: Duration = Duration::from_millis(50);

/// What the tasks of one life work on.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) hosting: Arc<Hosting>,
    pub(crate) terms: Terms,
    pub(crate) phase: watch::Sender<Phase>,
    /// The way to the others; `None` for a node without links.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) changes: Changes,
    /// How long what runs may go on in the shards of a node that is drained.
    pub(crate) drain_within: Duration,
    pub(crate) placement: Arc<Mutex<placement::Cached>>,
    pub(crate) sightings: Arc<Mutex<Sightings>>,
    /// Held by whoever reads the rows and takes what they say is to be taken.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What the database says about who is there and who owns what.
pub(super) struct Map {
    pub(super) nodes: Vec<NodeRow>,
    pub(super) shards: Vec<ShardRow>,
    declined: Vec<(ShardId, NodeId, Incarnation)>,
    pub(super) catalog: Catalog,
}

impl Member {
    /// Renews the lease until it is lost; then stops everything the node serves.
    pub(crate) async fn keep_lease(self, registered: Instant) {
        let mut lease = Lease::registered(registered, self.terms);
        let mut renewal = None;
        while let Some(wake_at) = lease.wake_at() {
            if matches!(*self.phase.borrow(), Phase::Lost(_)) {
                return; // Lost for another reason: it runs out.
            }
            let event = match &mut renewal {
                None => {
                    Clock.sleep_until(wake_at).await;
                    Event::Tick
                }
                // The renewal goes on in its own task whichever arm wins; it is polled again.
                Some(answer) => tokio::select! {
                    biased;
                    event = answer => {
                        renewal = None;
                        event
                    }
                    () = Clock.sleep_until(wake_at) => Event::Tick,
                },
            };
            let (next, action) = step(lease, event, Clock.now(), self.terms);
            lease = next;
            match action {
                Action::Wait => {}
                Action::Renew => renewal = Some(Box::pin(self.clone().renew())),
                Action::Extend(until) => self.hosting.shards().extend_lease(until),
                Action::DropEverything(loss) => self.drop_everything(loss).await,
            }
        }
    }

    /// Stops serving at once: somebody else may own everything, or soon will.
    pub(super) async fn drop_everything(&self, loss: Loss) {
        tracing::error!(node = %self.node(), %loss, "the node stops serving");
        self.hosting.shards().revoke_all();
        let why = loss.to_string();
        self.changes.note(What::LeaseLost { why });
        if loss == Loss::Deposed {
            self.doubt_witnesses().await;
        }
        self.phase.send_replace(Phase::Lost(loss));
        self.hosting.stop().await;
    }

    async fn renew(self) -> Event {
        let sent = Clock.now();
        let before = self.hosting.shards().owned();
        let (node, life, ttl) = (self.node().clone(), self.incarnation(), self.terms.ttl);
        let renewed = self.hosting.store().write_lease("renew lease", move |c| {
            Box::pin(async move { nodes::renew(c, &node, life, ttl).await })
        });
        let renewed = renewed.await;
        let took = Clock.now().saturating_duration_since(sent);
        metrics::histogram!("actor_lease_renewal_duration").record(took.as_secs_f64());
        match renewed {
            Ok(Some(renewal)) => {
                self.heed_renewal(&before, &renewal.owned);
                Event::Renewed { sent }
            }
            Ok(None) => Event::Refused,
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed");
                Event::Failed
            }
        }
    }

    /// Takes and gives up shards as nodes come and go, until the node leaves.
    ///
    /// A handoff runs beside it: it waits for handlers to end, and what a dead peer owned must not
    /// wait for them.
    pub(crate) async fn keep_balance(self) {
        let mut handoff = JoinSet::new();
        // Invariant: shards are taken off this list by the task that reads the rows, before it
        // reads them; so rows that were read while a shard left are never believed about it.
        let mut leaving = Vec::new();
        let (mut pace, mut untold) = (Pace::default(), Vec::new());
        loop {
            let pause = self.hosting.rng().jitter(self.terms.balance_every(), 20);
            let pause = pace.pause(pause, Clock.now());
            // All arms only wait; a handoff goes on in its own task.
            tokio::select! {
                biased;
                () = self.called() => {}
                shards = self.hosting.declined() => untold = shards,
                Some(ended) = handoff.join_next() => {
                    if let Ok(Err(error)) = ended {
                        tracing::warn!(%error, "shards could not be handed over");
                    }
                    leaving.clear();
                    continue;
                }
                () = Clock.sleep(pause) => {}
            }
            if !self.balances() {
                // What has begun to leave leaves in order.
                while handoff.join_next().await.is_some() {}
                return;
            }
            if !untold.is_empty() && self.decline(untold.clone()).await {
                untold.clear(); // Otherwise it is told again at the next look.
            }
            match self.balance(&leaving).await {
                Ok(lost) if handoff.is_empty() => {
                    let lost = self.leavers(lost, &mut pace);
                    if lost.is_empty() {
                        continue;
                    }
                    leaving.clone_from(&lost);
                    let (member, within) = (self.clone(), self.gives_up_within());
                    handoff.spawn(async move { member.give_up(lost, within).await });
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the shards could not be balanced"),
            }
        }
    }

    /// Says whether the node takes part in placement, be it to give everything away.
    pub(super) fn balances(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ready | Phase::Resting)
    }

    pub(super) fn rests(&self) -> bool {
        *self.phase.borrow() == Phase::Resting
    }

    fn gives_up_within(&self) -> Duration {
        match self.rests() {
            true => self.drain_within,
            false => self.terms.handoff_within(),
        }
    }

    /// Does one round of balancing, with nothing said about the shards that are `leaving`; returns
    /// what another node should have.
    pub(crate) async fn balance(&self, leaving: &[ShardId]) -> Result<Vec<ShardId>, StoreError> {
        let turn = self.turn.lock().await;
        let map = self.read_map().await?;
        self.hosting.groups().learn(map.catalog.clone());
        self.heed(&map.nodes);
        if self.sightings().note(&map.nodes, Clock.now()) {
            tracing::warn!("a lease ends too far ahead: the database's clock stepped back");
        }
        let there = candidates::there(&map.nodes);
        self.publish(&map, there.len());
        let rows: Vec<_> = map.shards.iter().map(|row| row.owner.clone()).collect();
        let unserved = self.reconcile(&map.shards, leaving);
        let may = candidates::of_groups(&map.nodes, &map.catalog);
        let mut moves = {
            let placement = self.placement.lock();
            let mut placement = placement.unwrap_or_else(PoisonError::into_inner);
            let count = self.hosting.groups().count();
            let wanted = placement.assign(count, may, map.declined_by(&there));
            placement::moves(self.node(), &there, &rows, wanted)
        };
        if !self.balances() {
            return Ok(Vec::new());
        }
        // What is free goes first: nobody serves it; what is given up is served until it goes.
        let won = self.take(moves.take).await;
        let won = self.regain(unserved).await | won?;
        drop(turn);
        if won {
            self.hosting.take_up().await?;
        }
        moves.give_up.retain(|shard| !leaving.contains(shard));
        Ok(moves.give_up)
    }

    /// Does what an operator wrote into this node's row.
    fn heed(&self, nodes: &[NodeRow]) {
        let me = (self.node(), self.incarnation());
        let own = nodes.iter().find(|row| (&row.node, row.incarnation) == me);
        let Some(row) = own else { return };
        let wanted = match row.state {
            NodeState::Resting => Phase::Resting,
            NodeState::Up => Phase::Ready,
            _ => return,
        };
        let changed = self.phase.send_if_modified(|phase| {
            let differs = *phase != wanted && matches!(phase, Phase::Ready | Phase::Resting);
            if differs {
                *phase = wanted;
            }
            differs
        });
        if changed {
            tracing::info!(node = %self.node(), phase = ?wanted, "an operator asked for it");
            self.changes.note(match wanted {
                Phase::Resting => What::Rests,
                _ => What::CalledBack,
            });
        }
    }

    /// Tells everybody that this program is too old for shards; the next round gives them up to
    /// whoever is not. Says whether it is stored.
    async fn decline(&self, shards: Vec<ShardId>) -> bool {
        let (node, life) = (self.node().clone(), self.incarnation());
        let told = self.hosting.store().write("decline shards", move |c| {
            Box::pin(async move { declined::decline(c, &shards, &node, life).await })
        });
        let told = told.await;
        if let Err(error) = &told {
            tracing::warn!(%error, "shards for newer programs could not be told");
        }
        told.is_ok()
    }

    /// Waits until a peer says that there are shards to take.
    async fn called(&self) {
        match &self.peers {
            Some(peers) => peers.desk.balance.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Lets calls find what was read, and keeps links to those who are there.
    fn publish(&self, map: &Map, there: usize) {
        metrics::gauge!("actor_nodes").set(there as f64);
        let Some(peers) = &self.peers else { return };
        let (came, went) = peers.see(&map.nodes, &map.shards);
        for peer in went {
            let (node, incarnation) = named(&peer);
            self.changes.note(What::Went { node, incarnation });
        }
        for peer in came {
            let (node, incarnation) = named(&peer);
            self.changes.note(What::Came { node, incarnation });
        }
    }

    /// Makes memory agree with the rows: the answer to a takeover may have been lost, and another
    /// node may have taken what this one thinks it owns. Returns what is its own by the rows and
    /// not served.
    ///
    /// A shard that leaves is known no more before its row says so.
    fn reconcile(&self, rows: &[ShardRow], leaving: &[ShardId]) -> Vec<(ShardId, Epoch)> {
        let (shards, me) = (
            self.hosting.shards(),
            (self.node().clone(), self.incarnation()),
        );
        let (mut unserved, mut gone, mut lost) = (Vec::new(), Vec::new(), 0);
        for row in rows {
            let (mine, known) = (row.owner.as_ref() == Some(&me), shards.epoch(row.shard));
            match (mine, known) {
                (true, None) if self.balances() && !leaving.contains(&row.shard) => {
                    unserved.push((row.shard, row.epoch));
                }
                (false, Some(epoch)) if shards.revoke_epoch(row.shard, epoch) => {
                    gone.push(row.shard);
                    lost += 1;
                }
                // A refused write took it away: whoever waits there is sent on.
                (false, None) if self.hosting.runs_in(row.shard) => gone.push(row.shard),
                _ => {}
            }
        }
        if !gone.is_empty() {
            self.hosting.give_up(&gone);
        }
        let fenced = usize::try_from(shards.take_fenced()).unwrap_or(usize::MAX);
        if fenced > 0 {
            self.changes.note(What::Fenced { shards: fenced });
        }
        if lost > 0 {
            self.changes.note(What::Lost { shards: lost });
        }
        unserved
    }

    async fn take(&self, free: Vec<ShardId>) -> Result<bool, StoreError> {
        if free.is_empty() {
            return Ok(false);
        }
        let mut tries = 0;
        let (taken, last) = loop {
            tries += 1;
            match self.take_once(free.clone()).await {
                // A batch or another node's takeover holds a row: it ends soon.
                Err(error) if error.kind() == StoreErrorKind::Busy && tries < TAKE_TRIES => {
                    let wait = self.hosting.rng().jitter(TAKE_AGAIN, 50);
                    Clock.sleep(wait).await;
                }
                taken => break taken?,
            }
        };
        for taken in &taken {
            if !taken.released {
                // What waits there may be what killed its owner (architecture D7).
                self.hosting.suspect(taken.shard, last);
            }
            taken.grant(self.hosting.shards());
        }
        if !taken.is_empty() {
            self.changes.note(took(&taken));
        }
        let shards: Vec<_> = taken.iter().map(|it| (it.shard, it.epoch)).collect();
        self.tell_taken(&shards);
        Ok(!taken.is_empty())
    }

    /// Returns what was taken, and the newest message that was stored by then: in one answer, so
    /// that nothing is served without knowing what is suspect.
    async fn take_once(&self, free: Vec<ShardId>) -> Result<(Vec<Taken>, i64), StoreError> {
        let (node, life) = (self.node().clone(), self.incarnation());
        let seen = self.sightings().seen(Clock.now());
        let taken = self.hosting.store().write("take shards", move |c| {
            Box::pin(async move {
                let taken = ownership::take(c, &free, &node, life, &seen).await?;
                Ok((taken, mailbox::last_seq(c).await?))
            })
        });
        taken.await
    }

    pub(super) async fn read_map(&self) -> Result<Map, StoreError> {
        let read = self.hosting.store().read("shard map", |c| {
            Box::pin(async move {
                Ok(Map {
                    nodes: nodes::list(c).await?,
                    shards: ownership::list(c).await?,
                    declined: declined::list(c).await?,
                    catalog: kinds::list(c).await?,
                })
            })
        });
        read.await
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        let sightings = self.sightings.lock();
        sightings.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many nodes hold a lease by the database's judgement.
    pub(crate) async fn count_there(&self) -> Result<usize, StoreError> {
        Ok(candidates::there(&self.read_map().await?.nodes).len())
    }

    pub(super) fn node(&self) -> &NodeId {
        self.hosting.shards().node()
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.hosting.shards().incarnation()
    }
}

impl Map {
    /// Returns what lives that are there declined.
    fn declined_by(&self, live: &BTreeMap<NodeId, Incarnation>) -> placement::Declined {
        let mut declined = placement::Declined::new();
        for (shard, node, life) in &self.declined {
            if live.get(node) == Some(life) {
                declined.entry(*shard).or_default().insert(node.clone());
            }
        }
        declined
    }
}

pub(super) fn named(peer: &PeerId) -> (String, u64) {
    (peer.node.to_string(), peer.incarnation.0)
}
