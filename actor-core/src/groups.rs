//! Groups of shards: which kinds share nodes, and which shards are a kind's.
//!
//! All shards are one line of numbers: group number `g` has those from `g * count` on, `count` of
//! them. So ownership, fences and polls know shards only, and groups matter where a shard is
//! computed, and where shards are given to nodes. Not here: which node is given which
//! (actor-cluster), and the tables ([`store::kinds`](crate::store::kinds)).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, Instant},
    id::{GroupId, ShardId},
    store::{
        Store, StoreError,
        kinds::{self, Catalog, KindRow},
    },
};

/// The group of kinds that name none, of topics and of singletons.
pub const DEFAULT_GROUP: &str = "default";

/// The most groups a cluster may have.
pub const GROUPS_MAX: usize = 64;

/// The time between two looks for kinds that nobody here knows: names from outside must not become
/// as many statements.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How names of the framework's own begin: topics and singletons have a shard and no kind. A kind
/// cannot be named so.
const OURS: &str = "actor:";

/// The groups of one cluster, as a node knows them.
pub struct Groups {
    /// How many shards each has.
    count: u32,
    /// The groups of the kinds that are hosted here, which never change.
    hosted: BTreeMap<&'static str, GroupId>,
    /// The groups this node is a member of, in order.
    joined: Box<[GroupId]>,
    catalog: RwLock<Arc<Catalog>>,
    /// Whether there is more than the default group: with it alone nothing has to be looked up.
    several: AtomicBool,
    /// When the last look for an unknown kind began. Who waits for it waits for the look.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Groups {
    /// Returns the groups of a node that is alone and asked nobody: all kinds are in the default
    /// group.
    pub fn alone(count: u32) -> Self {
        Self::new(count, std::iter::empty(), &[], Catalog::default())
    }

    /// Returns what a node knows that hosts `hosted` and is a member of `joined`. Each group has
    /// `count` shards.
    pub fn new(
        count: u32,
        hosted: impl Iterator<Item = &'static str>,
        joined: &[GroupId],
        catalog: Catalog,
    ) -> Self {
        let hosted = hosted.filter_map(|kind| Some((kind, catalog.group_of(kind)?)));
        Self {
            count,
            hosted: hosted.collect(),
            joined: joined.into(),
            several: AtomicBool::new(catalog.groups().len() > 1),
            catalog: RwLock::new(Arc::new(catalog)),
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// Returns how many shards each group has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns how many shards all known groups have together.
    pub fn all(&self) -> u32 {
        self.catalog().shards(self.count)
    }

    /// Returns the groups this node is a member of.
    pub fn joined(&self) -> &[GroupId] {
        &self.joined
    }

    /// Returns what is known of groups and kinds.
    pub fn catalog(&self) -> Arc<Catalog> {
        let catalog = self.catalog.read();
        catalog.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what was read from the database.
    pub fn learn(&self, catalog: Catalog) {
        let mut known = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        // Rows are only ever added: what was read before another look is no news after it.
        if catalog.kinds().len() >= known.kinds().len() {
            self.several
                .store(catalog.groups().len() > 1, Ordering::Release);
            *known = Arc::new(catalog);
        }
    }

    /// Returns the shard of an entity. One whose kind is not known counts as of the default group:
    /// whoever sends looks for the kind first.
    pub fn shard_of(&self, kind: &str, id: &str) -> ShardId {
        let within = ShardId::of(kind, id, self.count);
        if !self.several.load(Ordering::Acquire) {
            return within;
        }
        ShardId(self.first(self.group_of(kind)).0 + within.0)
    }

    /// Returns the first shard of a group.
    pub fn first(&self, group: GroupId) -> ShardId {
        ShardId(group.0 * self.count)
    }

    /// Returns the name of the group that a shard is in.
    pub fn name_of(&self, shard: ShardId) -> Arc<str> {
        self.catalog().name(shard.group(self.count))
    }

    /// Says whether the shard of entities of this kind can be computed here.
    pub fn knows(&self, kind: &str) -> bool {
        kind.starts_with(OURS)
            || self.hosted.contains_key(kind)
            || self.catalog().kind(kind).is_some()
    }

    fn group_of(&self, kind: &str) -> GroupId {
        if let Some(group) = self.hosted.get(kind) {
            return *group;
        }
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        catalog.group_of(kind).unwrap_or(GroupId::DEFAULT)
    }

    /// Returns what the database knows of a kind, looking there if nobody here does; `None` if no
    /// node ever hosted it. Those who look at once share a look.
    ///
    /// # Errors
    /// When the store does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the look.
    pub async fn look_for(&self, store: &Store, kind: &str) -> Result<Option<KindRow>, StoreError> {
        let known = || self.catalog().kind(kind).cloned();
        if let Some(row) = known() {
            return Ok(Some(row));
        }
        let asked = Clock.now();
        // Held while it looks: that is how the others wait for it.
        let mut looked = self.looked.lock().await;
        if let Some(row) = known() {
            return Ok(Some(row));
        }
        if let Some(last) = *looked {
            if last >= asked {
                return Ok(None);
            }
            Clock.sleep_until(last + LOOK_EVERY).await;
        }
        *looked = Some(Clock.now());
        let read = store.read("kinds", |c| Box::pin(async move { kinds::list(c).await }));
        self.learn(read.await?);
        Ok(known())
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups")
            .field("hosted", &self.hosted)
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosting::Role;

    fn row(kind: &str, group: &str) -> KindRow {
        KindRow {
            kind: kind.into(),
            group: group.into(),
            role: Role::Entity,
            exposed: false,
            receives: Vec::new(),
        }
    }

    fn catalog(groups: &[&str], kinds: &[(&str, &str)]) -> Catalog {
        Catalog::new(
            groups.iter().map(|group| (*group).into()).collect(),
            kinds.iter().map(|(kind, group)| row(kind, group)).collect(),
        )
    }

    #[test]
    fn each_group_has_shards_of_its_own() {
        let known = catalog(
            &["default", "media", "web"],
            &[("cart", "default"), ("clip", "media"), ("page", "web")],
        );
        let groups = Groups::new(16, ["clip"].into_iter(), &[GroupId(1)], known);
        let within = |kind| ShardId::of(kind, "a", 16).0;

        assert_eq!(groups.shard_of("cart", "a").0, within("cart"));
        assert_eq!(groups.shard_of("clip", "a").0, 16 + within("clip"));
        assert_eq!(groups.shard_of("page", "a").0, 32 + within("page"));
        assert_eq!(groups.shard_of("else", "a").0, within("else"));
        assert_eq!(&*groups.name_of(ShardId(17)), "media");
        assert_eq!(groups.first(GroupId(2)), ShardId(32));
    }

    #[test]
    fn what_is_learned_counts_at_once_and_is_never_forgotten() {
        let groups = Groups::new(16, std::iter::empty(), &[], Catalog::default());
        let before = groups.shard_of("clip", "a");
        assert!(!groups.knows("clip") && groups.knows("actor:topic"));

        groups.learn(catalog(&["default", "media"], &[("clip", "media")]));
        groups.learn(Catalog::default());

        assert!(groups.knows("clip"));
        assert_eq!(groups.shard_of("clip", "a").0, 16 + before.0);
    }
}
