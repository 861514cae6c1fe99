//! A life of a node begins: it waits for the end of former ones, says what it brings, and takes
//! what nobody has (architecture D1).

use std::collections::BTreeSet;

use actor_core::{
    clock::{Clock, Instant},
    component::Registry,
    groups::Groups,
    id::{GroupId, Incarnation, NodeId, ShardId},
    shards::Shards,
    store::{
        Store, StoreError, declined,
        kinds::{self, Catalog, KindRow},
        nodes::{self, NodeRow, NodeState},
        ownership::{self, Seen, Taken},
        suspicions,
    },
};

use super::{Settings, StartError, start::LOOK_EVERY};
use crate::{
    membership::Terms,
    node::{
        cluster::{Changes, What, took},
        linked::{Linked, Sought},
    },
};

/// What registration found and won.
pub(super) struct Registration {
    pub(super) incarnation: Incarnation,
    /// Whether the former life ended without saying so: its messages are suspect.
    pub(super) unclean: bool,
    pub(super) taken: Vec<Taken>,
    /// The groups it is a member of.
    joined: Vec<GroupId>,
    /// What is known of kinds.
    catalog: Catalog,
    /// Read before it was sent: the lease counts from here.
    pub(super) sent: Instant,
}

impl Registration {
    /// Hands out what was won, and the lease; without terms it never ends.
    pub(super) fn grant(&self, shards: &Shards, terms: Option<Terms>) {
        match terms {
            None => shards.hold_lease_unlimited(),
            Some(terms) => shards.extend_lease(self.sent + terms.held()),
        }
        for taken in &self.taken {
            taken.grant(shards);
        }
    }

    /// Returns what the node knows of groups.
    pub(super) fn groups(&self, registry: &Registry, count: u32) -> Groups {
        Groups::new(count, registry.kinds(), &self.joined, self.catalog.clone())
    }

    /// Tells operators of it.
    pub(super) fn note(&self, changes: &Changes) {
        let incarnation = self.incarnation.0;
        changes.note(What::Joined { incarnation });
        if !self.taken.is_empty() {
            changes.note(took(&self.taken));
        }
    }
}

/// What a node brings into a cluster.
pub(super) struct Brings {
    pub(super) kinds: Vec<KindRow>,
    pub(super) singletons: bool,
}

impl Brings {
    /// Returns the groups that a node is a member of: those of its kinds. Singletons are in the
    /// default group, but a node with kinds of others is none of its members for their sake: it
    /// would own shards of entities it does not host.
    fn joins(&self, catalog: &Catalog) -> Vec<GroupId> {
        let kinds = self.kinds.iter();
        let groups: BTreeSet<_> = kinds.filter_map(|row| catalog.group(&row.group)).collect();
        match groups.is_empty() && self.singletons {
            true => vec![GroupId::DEFAULT],
            false => groups.into_iter().collect(),
        }
    }
}

/// Returns the other nodes that hold a lease and can be dialled.
pub(super) async fn others(store: &Store, name: &NodeId) -> Result<Vec<NodeRow>, StoreError> {
    let rows = store.read("other nodes", |c| Box::pin(nodes::list(c)));
    let mut rows = rows.await?;
    rows.retain(|row| row.node != *name && !row.lease_left.is_zero() && !row.address.is_empty());
    Ok(rows)
}

/// Waits until no earlier life of this node can hold a lease any more.
///
/// It may be frozen, not dead: until its lease has run out it may still answer calls. If somebody
/// else, or nobody, answers where it listened, it is gone (architecture D1).
///
/// # Errors
/// `Held` when the lease is renewed meanwhile: another process has this name.
pub(super) async fn outlive(
    store: &Store,
    name: &NodeId,
    links: Option<&Linked>,
) -> Result<(), StartError> {
    let mut before = None;
    loop {
        let rows = store.read("former life", |c| Box::pin(nodes::list(c)));
        let rows = rows.await?;
        let live = |row: &&NodeRow| row.node != *name && !row.lease_left.is_zero();
        if links.is_none()
            && let Some(other) = rows.iter().find(live)
        {
            return Err(StartError::no_secret(&other.node));
        }
        let ended = |row: &NodeRow| matches!(row.state, NodeState::Left | NodeState::Dead);
        let former = rows.iter().find(|row| row.node == *name && !ended(row));
        let Some(former) = former.filter(|row| !row.lease_left.is_zero()) else {
            return Ok(());
        };
        if before.is_none()
            && let Some(links) = links
        {
            match links.seek(former).await {
                Sought::Gone => return Ok(()),
                Sought::Lives => return Err(StartError::name_taken(name)),
                Sought::Silent => {}
            }
        }
        let left = former.lease_left;
        match before {
            Some(before) if left > before => return Err(StartError::name_taken(name)),
            Some(_) => {}
            None => tracing::info!(node = %name, ?left, "waiting for the former life's lease"),
        }
        before = Some(left);
        Clock.sleep(LOOK_EVERY).await;
    }
}

/// Registers this life of the node; alone, it also takes everything.
pub(super) async fn register(
    store: &Store,
    settings: &Settings,
    name: &NodeId,
    address: &str,
    alone: bool,
    brings: Brings,
) -> Result<Registration, StoreError> {
    let (name, ttl, count) = (name.clone(), settings.lease_ttl, settings.shards);
    let (address, weight) = (address.to_owned(), settings.weight);
    let sent = Clock.now();
    let registered = store.write_lease("register", move |c| {
        Box::pin(async move {
            let mut unclean = false;
            for row in nodes::list(c).await? {
                // Alone, whoever else is in the table is gone: this process holds the lock.
                let former = alone || row.node == name;
                let ended = matches!(row.state, NodeState::Left | NodeState::Dead);
                if former && !ended {
                    unclean = true;
                    nodes::tombstone(c, &row.node, row.incarnation).await?;
                }
            }
            let incarnation = nodes::register(c, &name, &address, ttl).await?;
            nodes::set_weight(c, &name, incarnation, weight).await?;
            let catalog = kinds::record(c, &name, &brings.kinds, count).await?;
            let joined = brings.joins(&catalog);
            nodes::set_groups(c, &name, incarnation, &joined).await?;
            suspicions::forget(c).await?;
            declined::forget(c, &name).await?;
            let taken = if alone {
                let all = 0..catalog.shards(count);
                let all: Vec<_> = all.map(ShardId).collect();
                ownership::take(c, &all, &name, incarnation, &Seen::default()).await?
            } else {
                Vec::new()
            };
            Ok(Registration {
                incarnation,
                unclean,
                taken,
                joined,
                catalog,
                sent,
            })
        })
    });
    registered.await
}
