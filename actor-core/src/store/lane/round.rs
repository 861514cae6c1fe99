//! One batch from its first transaction to its last verdict.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    commit::{self, Abort, Receipt},
    item::{Announced, Verdict},
    meter,
    queue::{Body, Done},
    raise,
    task::Lane,
};
use crate::{
    id::{Epoch, ShardId},
    store::{StoreError, StoreErrorKind, open::Purpose},
};

/// How often a transaction that met another one is repeated.
const BUSY_REPEATS_MAX: u32 = 5;

/// The wait before the first of those repeats; it doubles.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// A part of a batch that goes into one transaction.
#[derive(Debug)]
struct Part {
    /// Indices of items, ascending.
    items: Vec<usize>,
    /// Whether the database must say which rows it wrote: some rows were missing in the last try.
    careful: bool,
    /// How often it was repeated because the database was busy.
    repeats: u32,
}

/// What to do with a part whose transaction failed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The same again, a little later.
    Repeat,
    /// Each half alone: some item in it is bad.
    Split,
    /// Nothing was stored and there is no point in trying again.
    Fail,
    /// The end is unknown.
    Unclear,
}

/// One batch.
pub(super) struct Round<'l> {
    lane: &'l Lane,
    bodies: Arc<[Body]>,
    dones: VecDeque<Done>,
    verdicts: Vec<Option<Verdict>>,
    /// How many items were told; always a prefix, so that verdicts come in item order.
    told: usize,
    tally: meter::Tally,
}

impl<'l> Round<'l> {
    pub(super) fn new(lane: &'l Lane, bodies: Vec<Body>, dones: Vec<Done>) -> Self {
        Self {
            lane,
            verdicts: bodies.iter().map(|_| None).collect(),
            bodies: bodies.into(),
            dones: dones.into(),
            told: 0,
            tally: meter::Tally::default(),
        }
    }

    /// Commits the batch in as few transactions as its items allow and tells every item.
    pub(super) async fn run(mut self) {
        let mut parts = VecDeque::from([Part {
            items: (0..self.bodies.len()).collect(),
            careful: false,
            repeats: 0,
        }]);
        while let Some(mut part) = parts.pop_front() {
            part.items.retain(|item| self.is_worth_trying(*item));
            if !part.items.is_empty() {
                match self.attempt(&part).await {
                    Ok(receipt) => self.committed(part, receipt),
                    Err(Abort::RowsMissing) => {
                        part.careful = true;
                        parts.push_front(part);
                    }
                    Err(Abort::Conflicts(conflicts)) => {
                        for (item, write) in conflicts {
                            self.decide(item, Verdict::Conflict { write });
                        }
                        parts.push_front(part);
                    }
                    Err(Abort::Store(error)) => self.failed(part, error, &mut parts).await,
                }
            }
            self.tell();
        }
        self.tally.record();
    }

    /// Runs one transaction and measures it.
    async fn attempt(&mut self, part: &Part) -> Result<Receipt, Abort> {
        let config = &self.lane.config;
        let began = config.clock.now();
        let job = commit::Job::new(config, &self.bodies, &part.items, part.careful);
        let ended = config
            .store
            .transact(Purpose::Lane(self.lane.number), "commit", move |c| {
                Box::pin(commit::run(c, job))
            })
            .await;
        meter::transaction(config.clock.now() - began, part.items.len());
        ended
    }

    /// Decides items that need no transaction: they follow one that failed, or their epoch is over.
    fn is_worth_trying(&mut self, item: usize) -> bool {
        let body = &self.bodies[item];
        if self.verdicts[item].is_some() {
            return false;
        }
        if self.lane.queue.has_failed(body.activation) {
            self.decide(item, Verdict::Refused);
            return false;
        }
        if !self.lane.config.shards.owns(body.shard, body.epoch) {
            self.decide(item, Verdict::Fenced);
            return false;
        }
        true
    }

    fn committed(&mut self, part: Part, receipt: Receipt) {
        if !receipt.fenced.is_empty() {
            let shards = receipt.fenced.len();
            tracing::warn!(
                shards,
                "the database refused writes: their shards have other owners"
            );
        }
        for &(shard, epoch) in &receipt.fenced {
            // The database knows better: whoever still acts for this epoch here must stop.
            self.lane.config.shards.fence(shard, epoch);
        }
        let mut numbers = receipt.numbers;
        for item in part.items {
            let body = &self.bodies[item];
            if receipt.fenced.contains(&(body.shard, body.epoch)) {
                self.decide(item, Verdict::Fenced);
            } else {
                let own = numbers.remove(&item).unwrap_or_default();
                self.decide(item, Verdict::Committed(own));
            }
        }
        self.tell();
        self.announce(receipt.events);
    }

    /// Acts on a transaction that failed as a whole.
    async fn failed(&mut self, mut part: Part, error: StoreError, parts: &mut VecDeque<Part>) {
        match step(error.kind(), part.items.len(), part.repeats) {
            Step::Repeat => {
                let config = &self.lane.config;
                let wait = BUSY_WAIT * 2_u32.pow(part.repeats);
                config.clock.sleep(config.rng.jitter(wait, 50)).await;
                part.repeats += 1;
                parts.push_front(part);
            }
            Step::Split => {
                let tail = part.items.split_off(part.items.len() / 2);
                let Part {
                    careful, repeats, ..
                } = part;
                parts.push_front(Part {
                    items: tail,
                    careful,
                    repeats,
                });
                parts.push_front(part);
            }
            Step::Fail => {
                tracing::warn!(%error, items = part.items.len(), "a batch was not stored");
                for item in part.items {
                    self.decide(item, Verdict::Failed(error.clone()));
                }
            }
            Step::Unclear => self.unclear(&part, &error).await,
        }
    }

    /// The end of a commit is unknown: tells its items, and raises the epochs of their shards
    /// before anything else happens there.
    async fn unclear(&mut self, part: &Part, error: &StoreError) {
        tracing::warn!(%error, items = part.items.len(), "the end of a commit is unknown");
        let epochs = self.epochs(part);
        let shards: BTreeSet<_> = epochs.iter().map(|(shard, _)| *shard).collect();
        // Marked before anybody is told: a reload asks for the mark.
        self.lane.queue.unsettle(shards.iter().copied());
        for &item in &part.items {
            self.decide(item, Verdict::Unclear(error.clone()));
        }
        self.tell();
        raise::raise(self.lane, &epochs).await;
        self.lane.queue.settle(shards.into_iter());
    }

    fn epochs(&self, part: &Part) -> BTreeSet<(ShardId, Epoch)> {
        let epoch = |item: &usize| (self.bodies[*item].shard, self.bodies[*item].epoch);
        part.items.iter().map(epoch).collect()
    }

    /// Records a verdict; it is told once all earlier items of the batch have theirs.
    fn decide(&mut self, item: usize, verdict: Verdict) {
        if !verdict.is_committed() {
            self.lane.queue.fail(self.bodies[item].activation);
        }
        self.verdicts[item] = Some(verdict);
    }

    /// Tells the items that are decided, in item order.
    fn tell(&mut self) {
        while let Some(verdict) = self.verdicts.get_mut(self.told).and_then(Option::take) {
            self.told += 1;
            self.tally.add(&verdict);
            let Some(done) = self.dones.pop_front() else {
                return;
            };
            if catch_unwind(AssertUnwindSafe(|| done(verdict))).is_err() {
                tracing::error!("a panic while an entity was told its verdict");
            }
        }
    }

    fn announce(&self, events: Vec<Announced>) {
        if events.is_empty() {
            return;
        }
        let hook = &self.lane.config.on_events;
        if catch_unwind(AssertUnwindSafe(|| hook(events))).is_err() {
            tracing::error!("a panic while events were announced");
        }
    }
}

/// Decides what to do after a transaction of `items` items failed.
fn step(kind: StoreErrorKind, items: usize, repeats: u32) -> Step {
    match kind {
        StoreErrorKind::Unclear => Step::Unclear,
        StoreErrorKind::Busy if repeats < BUSY_REPEATS_MAX => Step::Repeat,
        // A statement that does not fit the schema is one kind's mistake: others go on.
        StoreErrorKind::Data | StoreErrorKind::Bug if items > 1 => Step::Split,
        _ => Step::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::{StoreErrorKind::*, *};

    #[test]
    fn a_failed_transaction_is_repeated_split_failed_or_unclear() {
        let table = [
            ((Busy, 9, 0), Step::Repeat),
            ((Busy, 9, BUSY_REPEATS_MAX), Step::Fail),
            ((Data, 9, 0), Step::Split),
            ((Data, 1, 0), Step::Fail),
            ((Bug, 2, 0), Step::Split),
            ((Unavailable, 9, 0), Step::Fail),
            ((Unclear, 9, 0), Step::Unclear),
            ((Unclear, 1, BUSY_REPEATS_MAX), Step::Unclear),
        ];
        for ((kind, items, repeats), expected) in table {
            assert_eq!(
                step(kind, items, repeats),
                expected,
                "{kind:?} {items} {repeats}"
            );
        }
    }
}
