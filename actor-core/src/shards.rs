//! What this node owns: the epoch of each shard and the deadline of the lease, read without a lock.
//!
//! Not here: how a shard is won or lost; that is the node's business, told in SQL by
//! [`store::ownership`](crate::store::ownership).

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    clock::{Clock, Instant},
    id::{Epoch, Incarnation, NodeId, ShardId},
    news::News,
};

/// Marks a shard this node does not own: epochs start at 1.
const NOT_OWNED: u64 = 0;

/// Marks a lease that needs no renewal.
const UNLIMITED: u64 = u64::MAX;

/// The stages of leaving, in their order: work begins; what runs goes on to its end; what still
/// runs is cut off.
const SERVES: u8 = 0;
const FROZEN: u8 = 1;
const CUT: u8 = 2;

/// The bit of a tenure that says that former owners are outlasted.
const OUTLASTED: u64 = 1;

/// One time of owning a shard, from its grant on until it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenure(u64);

/// What this life of the node owns. Shared by everything on the node; reads take no lock.
#[derive(Debug)]
pub struct Shards {
    node: NodeId,
    incarnation: Incarnation,
    epochs: Box<[AtomicU64]>,
    /// How far each shard is on its way to another node.
    stages: Box<[AtomicU8]>,
    /// How often each shard was won, doubled; one more once its former owners are outlasted.
    tenures: Box<[AtomicU64]>,
    /// Tells whoever waits for a shard to come or go that one did.
    news: News,
    /// The lease is counted in nanoseconds from here, so that it fits an atomic.
    origin: Instant,
    lease: AtomicU64,
    /// Shards that the database took away when something of theirs was to be stored.
    fenced: AtomicU64,
}

impl Shards {
    /// Returns a node that owns nothing yet and holds no lease.
    pub fn new(count: u32, node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            node,
            incarnation,
            epochs: (0..count).map(|_| AtomicU64::new(NOT_OWNED)).collect(),
            stages: (0..count).map(|_| AtomicU8::new(SERVES)).collect(),
            tenures: (0..count).map(|_| AtomicU64::new(0)).collect(),
            news: News::default(),
            origin: Clock.now(),
            lease: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
        }
    }

    /// Returns how many shards there are in all.
    pub fn count(&self) -> u32 {
        u32::try_from(self.epochs.len()).expect("made from a u32")
    }

    /// Returns the node's name.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Returns this life of the node.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns the epoch under which this node owns `shard`; `None` if it does not.
    pub fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        match self.slot(shard)?.load(Ordering::Acquire) {
            NOT_OWNED => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    /// Says whether this node owns `shard` under exactly this epoch.
    pub fn owns(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.epoch(shard) == Some(epoch)
    }

    /// Records that this node owns `shard` under `epoch`, that it is not frozen, and that former
    /// owners of it are not known to be outlasted. Unknown shards are ignored.
    pub fn grant(&self, shard: ShardId, epoch: Epoch) {
        if let (Some(slot), Some(tenure)) = (self.slot(shard), self.tenures.get(place(shard))) {
            if epoch.0 != NOT_OWNED && slot.load(Ordering::Acquire) == NOT_OWNED {
                // Before the epoch: who sees the shard owned again sees that it had been lost, and
                // not what was known under the old one.
                let begin = |tenure: u64| Some((tenure | OUTLASTED) + 1);
                let _ = tenure.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin);
            }
            slot.store(epoch.0, Ordering::Release);
            self.set_stage(shard, SERVES);
        }
    }

    /// Returns which of the times this is that the node owns `shard`. A new epoch that the owner
    /// gives itself does not end a tenure; losing the shard does, however that is found out.
    ///
    /// What is kept in memory of a shard is good for one tenure: read this before
    /// [`Hosting::admits`](crate::hosting::Hosting::admits), and ask
    /// [`holds`](Self::holds) before each use.
    pub fn tenure(&self, shard: ShardId) -> Tenure {
        let tenure = self.tenures.get(place(shard));
        Tenure(tenure.map_or(0, |tenure| tenure.load(Ordering::Acquire) & !OUTLASTED))
    }

    /// Says whether `shard` is this node's and was so ever since `tenure` began.
    pub fn holds(&self, shard: ShardId, tenure: Tenure) -> bool {
        // In this order: a tenure that begins in between is seen by the second look.
        self.epoch(shard).is_some() && self.tenure(shard) == tenure
    }

    /// Records that `shard` is about to leave: it is owned still, so what runs can be stored, but
    /// nothing new begins in it.
    ///
    /// One that is further on its way stays there.
    pub fn freeze(&self, shard: ShardId) {
        if let Some(stage) = self.stages.get(place(shard)) {
            stage.fetch_max(FROZEN, Ordering::SeqCst);
        }
        self.news.tell();
    }

    /// Records that what still runs in a frozen `shard` has had its time.
    pub fn cut(&self, shard: ShardId) {
        self.set_stage(shard, CUT);
    }

    /// Says whether new work may begin in `shard` here.
    pub fn serves(&self, shard: ShardId) -> bool {
        self.epoch(shard).is_some() && self.stage(shard) == SERVES
    }

    /// Says whether what runs in `shard` may go on: it is owned, and its time is not over.
    pub fn lasts(&self, shard: ShardId) -> bool {
        self.epoch(shard).is_some() && self.stage(shard) < CUT
    }

    /// Says whether what runs in `shard` may take its next step at `now`: it lasts, and so does the
    /// lease. To be asked before each step by what no other node may run at the same time: a node
    /// that was frozen finds out here, before it does anything.
    pub fn may_step(&self, shard: ShardId, now: Instant) -> bool {
        self.lease_holds(now) && self.lasts(shard)
    }

    /// Says whether no former owner of `shard`, which this node owns, can run anything in it any
    /// more.
    pub fn is_outlasted(&self, shard: ShardId) -> bool {
        let tenure = self.tenures.get(place(shard));
        tenure.is_some_and(|tenure| tenure.load(Ordering::Acquire) & OUTLASTED != 0)
            || self.lease.load(Ordering::Acquire) == UNLIMITED
    }

    /// Returns the shards that are owned and whose former owners are not known to be outlasted,
    /// each with the tenure for [`Shards::outlast`].
    pub fn to_outlast(&self) -> Vec<(ShardId, Tenure)> {
        let owned = self.owned().into_iter().map(|(shard, _)| shard);
        let open = owned.filter(|shard| !self.is_outlasted(*shard));
        open.map(|shard| (shard, self.tenure(shard))).collect()
    }

    /// Records that no former owner of `shard` can run anything in it any more; says whether this
    /// is news. Ignored if the shard was won anew since `tenure` was read.
    pub fn outlast(&self, shard: ShardId, tenure: Tenure) -> bool {
        let (old, new) = (tenure.0, tenure.0 | OUTLASTED);
        let is_news = self.tenures.get(place(shard)).is_some_and(|slot| {
            slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        });
        if is_news {
            self.news.tell();
        }
        is_news
    }

    /// Returns what tells that a shard came, goes or went, or that its former owners are outlasted.
    pub fn news(&self) -> &News {
        &self.news
    }

    // The order among this and the count of what runs in a shard is total: whoever begins counts
    // first and looks then, whoever freezes does it the other way round, so one sees the other.
    fn stage(&self, shard: ShardId) -> u8 {
        let stage = self.stages.get(place(shard));
        stage.map_or(SERVES, |stage| stage.load(Ordering::SeqCst))
    }

    fn set_stage(&self, shard: ShardId, stage: u8) {
        if let Some(slot) = self.stages.get(place(shard)) {
            slot.store(stage, Ordering::SeqCst);
        }
        self.news.tell();
    }

    /// Records that this node does not own `shard` any more.
    pub fn revoke(&self, shard: ShardId) {
        self.grant(shard, Epoch(NOT_OWNED));
    }

    /// Records that ownership of `shard` under `epoch` ended; a newer one stays. Says whether it
    /// did.
    pub fn revoke_epoch(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.replace(shard, epoch, Epoch(NOT_OWNED))
    }

    /// Records that the database refused a write in `shard` under `epoch`: somebody else owns it.
    pub(crate) fn fence(&self, shard: ShardId, epoch: Epoch) {
        self.fenced.fetch_add(1, Ordering::Relaxed);
        self.revoke_epoch(shard, epoch);
    }

    /// Returns how many shards were found to be somebody else's by a refused write, since the last
    /// time this was asked.
    pub fn take_fenced(&self) -> u64 {
        self.fenced.swap(0, Ordering::Relaxed)
    }

    /// Replaces `old` by `new`; says whether the shard was owned under `old`.
    pub fn replace(&self, shard: ShardId, old: Epoch, new: Epoch) -> bool {
        let replaced = self.slot(shard).is_some_and(|slot| {
            slot.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        });
        if replaced {
            self.news.tell();
        }
        replaced
    }

    /// Records that this node owns nothing any more and ends its lease.
    pub fn revoke_all(&self) {
        self.lease.store(0, Ordering::Release);
        for slot in &self.epochs {
            slot.store(NOT_OWNED, Ordering::Release);
        }
        self.news.tell();
    }

    /// Returns what this node owns, in shard order.
    pub fn owned(&self) -> Vec<(ShardId, Epoch)> {
        let shards = (0..self.count()).map(ShardId);
        shards
            .filter_map(|shard| Some((shard, self.epoch(shard)?)))
            .collect()
    }

    /// Lets the lease hold until `until`; an earlier end than the present one is ignored.
    pub fn extend_lease(&self, until: Instant) {
        self.lease.fetch_max(self.nanos(until), Ordering::AcqRel);
    }

    /// Lets the lease hold for ever: an operating system lock stands for this node's life (D9).
    pub fn hold_lease_unlimited(&self) {
        self.lease.store(UNLIMITED, Ordering::Release);
    }

    /// Says whether the lease holds at `now`; replies may only leave while it does.
    pub fn lease_holds(&self, now: Instant) -> bool {
        self.nanos(now) < self.lease.load(Ordering::Acquire)
    }

    /// Returns how long the lease still holds after `now`; `None` for ever.
    pub fn lease_left(&self, now: Instant) -> Option<Duration> {
        match self.lease.load(Ordering::Acquire) {
            UNLIMITED => None,
            until => Some(Duration::from_nanos(until.saturating_sub(self.nanos(now)))),
        }
    }

    fn slot(&self, shard: ShardId) -> Option<&AtomicU64> {
        self.epochs.get(place(shard))
    }

    fn nanos(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.origin);
        // One below the mark of an unlimited lease; more than five centuries of running.
        u64::try_from(since.as_nanos()).map_or(UNLIMITED - 1, |nanos| nanos.min(UNLIMITED - 1))
    }
}

fn place(shard: ShardId) -> usize {
    shard.0 as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(2);

    fn shards() -> Shards {
        Shards::new(4, NodeId::new("a"), Incarnation(1))
    }

    #[test]
    fn only_granted_shards_are_owned() {
        let shards = shards();
        shards.grant(SHARD, Epoch(7));
        shards.grant(ShardId(9), Epoch(1));

        assert_eq!(shards.owned(), [(SHARD, Epoch(7))]);
        assert_eq!(shards.epoch(ShardId(9)), None);
    }

    #[test]
    fn the_end_of_an_old_epoch_does_not_end_a_newer_one() {
        let shards = shards();
        shards.grant(SHARD, Epoch(8));

        assert!(!shards.revoke_epoch(SHARD, Epoch(7)));
        assert!(shards.owns(SHARD, Epoch(8)));
        assert!(shards.revoke_epoch(SHARD, Epoch(8)));
        assert_eq!(shards.epoch(SHARD), None);
    }

    /// Each way of losing a shard and winning it back.
    #[test]
    fn a_tenure_ends_with_the_shard_and_not_with_its_epoch() {
        type Change = fn(&Shards);
        let table: [(&str, Change, bool); 7] = [
            ("nothing", |_| {}, true),
            (
                "raised",
                |it| assert!(it.replace(SHARD, Epoch(5), Epoch(6))),
                true,
            ),
            ("granted twice", |it| it.grant(SHARD, Epoch(6)), true),
            ("frozen", |it| it.freeze(SHARD), true),
            ("fenced", |it| it.fence(SHARD, Epoch(5)), false),
            ("given up", |it| it.revoke(SHARD), false),
            ("all given up", Shards::revoke_all, false),
        ];
        for (claim, change, goes_on) in table {
            let shards = shards();
            shards.grant(SHARD, Epoch(5));
            let tenure = shards.tenure(SHARD);

            change(&shards);
            assert_eq!(shards.holds(SHARD, tenure), goes_on, "{claim}");
            shards.grant(SHARD, Epoch(9));

            assert_eq!(
                shards.holds(SHARD, tenure),
                goes_on,
                "{claim}, then won back"
            );
            assert!(shards.holds(SHARD, shards.tenure(SHARD)), "{claim}");
        }
    }

    #[test]
    fn former_owners_are_outlasted_for_one_tenure_only() {
        let shards = shards();
        shards.grant(SHARD, Epoch(1));
        let first = shards.tenure(SHARD);
        assert_eq!(shards.to_outlast(), [(SHARD, first)]);

        assert!(shards.outlast(SHARD, first));
        assert!(shards.replace(SHARD, Epoch(1), Epoch(2)));
        assert!(shards.is_outlasted(SHARD), "a raised epoch is no new owner");
        shards.revoke(SHARD);
        shards.grant(SHARD, Epoch(4));

        assert!(!shards.is_outlasted(SHARD));
        assert!(!shards.outlast(SHARD, first), "that was another tenure");
        assert!(!shards.is_outlasted(SHARD));
    }

    #[test]
    fn a_lease_ends_at_its_deadline_and_never_shrinks() {
        let shards = shards();
        let now = Clock.now();
        let second = Duration::from_secs(1);
        assert!(!shards.lease_holds(now));

        shards.extend_lease(now + 3 * second);
        shards.extend_lease(now + second);

        assert!(shards.lease_holds(now + 2 * second));
        assert!(!shards.lease_holds(now + 3 * second));
        assert_eq!(shards.lease_left(now + second), Some(2 * second));
    }

    #[test]
    fn an_unlimited_lease_holds_until_everything_is_revoked() {
        let shards = shards();
        let later = Clock.now() + Duration::from_secs(1 << 30);
        shards.hold_lease_unlimited();
        assert!(shards.lease_holds(later));

        shards.revoke_all();

        assert!(!shards.lease_holds(later));
    }
}
