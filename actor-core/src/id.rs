//! Names of things: nodes, shards, entities, calls. Newtypes, never bare integers or strings.
//!
//! Not here: how an entity finds its shard's owner (`shards.rs`).

mod snowflake;

use std::{
    fmt,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

pub use snowflake::{MachineId, NoSnowflake, Snowflake};

/// The longest accepted entity id, in bytes.
pub const ENTITY_ID_BYTES_MAX: usize = 512;

/// The name of a node, unique among live nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Wraps a node name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a node: a counter in its row, raised by SQL at each registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A hash bucket of entity ids, the unit of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

/// Up to this size a kind and an id are hashed in one piece, which takes a fraction of the time of
/// the same hash over several pieces.
const SHORT_BYTES: usize = 128;

impl ShardId {
    /// Returns the shard of an entity within its group: `xxh3(kind, 0, id) mod count` (architecture
    /// D4). In the default group that is the shard itself; see
    /// [`Groups::shard_of`](crate::groups::Groups::shard_of).
    ///
    /// # Panics
    /// Panics if `count` is zero, which no configuration accepts.
    pub fn of(kind: &str, id: &str, count: u32) -> Self {
        let mut short = [0; SHORT_BYTES];
        let whole = short.get_mut(..kind.len() + 1 + id.len());
        let hash = if let Some(whole) = whole {
            whole[..kind.len()].copy_from_slice(kind.as_bytes());
            whole[kind.len() + 1..].copy_from_slice(id.as_bytes());
            xxh3_64(whole)
        } else {
            let mut hash = Xxh3Default::new();
            hash.update(kind.as_bytes());
            hash.update(&[0]);
            hash.update(id.as_bytes());
            hash.digest()
        };
        Self((hash % u64::from(count)) as u32)
    }
}

impl ShardId {
    /// Returns the group that the shard is in, where each has `count` shards.
    pub fn group(self, count: u32) -> GroupId {
        GroupId(self.0 / count)
    }
}

/// The number of a group of shards; names are for people
/// ([`Groups::catalog`](crate::groups::Groups::catalog)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group of kinds that name none.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing number of one ownership of a shard; every takeover raises it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an entity within its kind; 1 to [`ENTITY_ID_BYTES_MAX`] bytes. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Wraps the text of `id`. Validity is checked when a call is made.
    pub fn new(id: impl fmt::Display) -> Self {
        Self(id.to_string().into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the id is neither empty nor longer than [`ENTITY_ID_BYTES_MAX`] and has no NUL,
    /// which PostgreSQL does not store.
    pub fn is_valid(&self) -> bool {
        (1..=ENTITY_ID_BYTES_MAX).contains(&self.0.len()) && !self.0.contains('\0')
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for EntityId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// The address of an entity or of a saga run: kind and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// The stable wire name of the kind.
    pub kind: &'static str,
    /// The id within the kind.
    pub id: EntityId,
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// The identity of one call or stored message; a retry of the same call keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u128);

impl CallId {
    /// Returns the id that a caller's key names within `entity` and its kind.
    pub fn from_key(key: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128_with_seed(key.as_bytes(), 1))
    }

    /// Returns the id of the `ordinal`-th call made while handling `self`: a re-run asks again
    /// under the same id.
    #[must_use]
    pub fn derive(self, ordinal: u64) -> Self {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.0.to_be_bytes());
        bytes[16..].copy_from_slice(&ordinal.to_be_bytes());
        Self(xxhash_rust::xxh3::xxh3_128_with_seed(&bytes, 2))
    }

    /// Returns the id this key has among all entities' messages.
    #[must_use]
    pub fn within(self, kind: &str, id: &str) -> Self {
        let mut hash = Xxh3Default::new();
        hash.update(&self.to_bytes());
        hash.update(kind.as_bytes());
        hash.update(&[0]);
        hash.update(id.as_bytes());
        Self(hash.digest128())
    }

    /// Returns the sixteen bytes that are stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads what [`CallId::to_bytes`] gave; `None` if it is not sixteen bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes call ids: 64 random bits of this life of the node, then a counter.
#[derive(Debug)]
pub struct CallIds {
    high: u64,
    next: AtomicU64,
}

impl CallIds {
    /// Starts a sequence under `high`, which must differ between lives of nodes.
    pub fn new(high: u64) -> Self {
        Self {
            high,
            next: AtomicU64::new(0),
        }
    }

    /// Returns an id that this node never returned before.
    pub fn next(&self) -> CallId {
        let low = self.next.fetch_add(1, Ordering::Relaxed);
        CallId((u128::from(self.high) << 64) | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_an_entity_never_changes() {
        // Written down: another value here would strand every stored entity.
        assert_eq!(ShardId::of("cart", "c-1", 512), ShardId(271));
        assert_eq!(ShardId::of("cart", &"c".repeat(400), 512), ShardId(109));
    }

    #[test]
    fn short_and_long_names_are_hashed_alike() {
        for size in [1, 122, 123, 124, 512] {
            let id = "x".repeat(size);
            let bytes = ["cart".as_bytes(), &[0], id.as_bytes()].concat();

            let shard = ShardId::of("cart", &id, 512);

            assert_eq!(u64::from(shard.0), xxh3_64(&bytes) % 512, "{size}");
        }
        let apart = [("cart", "ab"), ("carta", "b")];
        let [a, b] = apart.map(|(kind, id)| ShardId::of(kind, id, u32::MAX));
        assert_ne!(a, b);
    }

    #[test]
    fn derived_ids_repeat_for_the_same_ordinal_and_differ_for_others() {
        let id = CallId(7);

        assert_eq!(id.derive(1), id.derive(1));
        assert_ne!(id.derive(1), id.derive(2));
        assert_ne!(id.derive(1), CallId(8).derive(1));
        assert_eq!(CallId::from_bytes(&id.to_bytes()), Some(id));
    }
}
