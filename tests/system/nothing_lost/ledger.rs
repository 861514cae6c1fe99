//! What the clients were told, and what must therefore be true.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use actor_tests::{Context, Deadline, Http, Request, Result};
use tokio::sync::watch;

use super::client::{Attempt, Order};
use crate::shop::succeed;

/// Changes kept to be repeated: the last ones.
const SAMPLE: usize = 200;
/// How long one look at a checkout waits on the server's side.
const LOOK: &str = "5s";
/// How long all checkouts together may take to end.
const SETTLE_SECONDS: u64 = 60;

/// One change and its final answer.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) order: Order,
    pub(crate) outcome: Attempt,
}

/// A checkout that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    pub(crate) id: String,
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    pub(crate) declined: bool,
}

/// The books of the run, shared by all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    /// Final answers so far.
    answers: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Books {
    levels: BTreeMap<String, i64>,
    checkouts: Vec<Checkout>,
    sample: Vec<Change>,
    /// The next of the sample to be replaced.
    turn: usize,
    rejected: u64,
    attempts: u64,
    refused: u64,
    late: u64,
    postponed: BTreeMap<String, u64>,
    /// Lives that took the connection of a request with them, and how many.
    broken: BTreeMap<u32, u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            books: Mutex::default(),
            answers: watch::Sender::new(0),
        }
    }
}

impl Ledger {
    /// Notes the stock a thing begins with.
    pub(crate) fn open(&self, sku: &str, level: i64) {
        self.locked(|books| books.levels.insert(sku.to_owned(), level));
    }

    /// Notes one attempt in a life, whatever came of it.
    pub(crate) fn attempt(&self, life: u32, attempt: &Attempt) {
        self.locked(|books| {
            books.attempts += 1;
            match attempt {
                Attempt::Broken(_) => *books.broken.entry(life).or_default() += 1,
                Attempt::Refused(_) => books.refused += 1,
                Attempt::Late => books.late += 1,
                Attempt::Later(kind) => *books.postponed.entry(kind.clone()).or_default() += 1,
                Attempt::Done(_) | Attempt::Rejected(_) | Attempt::Wrong(_) => {}
            }
        });
    }

    /// Notes a final answer and what it did to the stock of `sku`.
    pub(crate) fn answer(&self, change: Change, effect: Option<(&str, i64)>) {
        self.locked(|books| {
            if let Some((sku, delta)) = effect {
                *books.levels.entry(sku.to_owned()).or_default() += delta;
            }
            books.rejected += u64::from(matches!(change.outcome, Attempt::Rejected(_)));
            if books.sample.len() < SAMPLE {
                books.sample.push(change);
            } else {
                books.turn = (books.turn + 1) % SAMPLE;
                let place = books.turn;
                books.sample[place] = change;
            }
        });
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// Notes a checkout that was accepted.
    pub(crate) fn checkout(&self, checkout: Checkout) {
        self.locked(|books| books.checkouts.push(checkout));
    }

    /// Returns how many final answers there were.
    pub(crate) fn answered(&self) -> u64 {
        *self.answers.borrow()
    }

    /// Waits for that many final answers.
    pub(crate) async fn wait_for_answers(&self, count: u64, by: Deadline) -> Result<()> {
        let mut answers = self.answers.subscribe();
        let enough = answers.wait_for(|answers| *answers >= count);
        by.limit(&format!("answer number {count} to the clients"), enough)
            .await??;
        Ok(())
    }

    /// Waits until every checkout has ended as its card says, and counts what was bought.
    pub(crate) async fn settle_checkouts(&self, http: &mut Http) -> Result<()> {
        let by = Deadline::seconds(SETTLE_SECONDS);
        let checkouts = self.locked(|books| books.checkouts.clone());
        let mut wrong = Vec::new();
        for checkout in checkouts {
            let look = Request::get(format!("/sagas/checkout/{}?wait={LOOK}", checkout.id));
            let state = loop {
                let run = by.limit(&checkout.id, succeed(http, &look)).await??;
                let state = run["state"].as_str().context("a state")?.to_owned();
                if matches!(state.as_str(), "completed" | "failed" | "cancelled") {
                    break state;
                }
                assert!(!by.is_past(), "checkout {} never ends: {run}", checkout.id);
            };
            let expected = if checkout.declined {
                "failed"
            } else {
                "completed"
            };
            if state != expected {
                wrong.push(format!("{checkout:?} is {state}"));
            }
            if state == "completed" {
                self.locked(|books| {
                    *books.levels.entry(checkout.sku).or_default() -= checkout.quantity;
                });
            }
        }
        assert!(
            wrong.is_empty(),
            "checkouts that ended otherwise: {wrong:#?}"
        );
        Ok(())
    }

    /// Returns what the stock of each thing must be.
    pub(crate) fn levels(&self) -> BTreeMap<String, i64> {
        self.locked(|books| books.levels.clone())
    }

    /// Returns some changes that have their final answer.
    pub(crate) fn sample(&self) -> Vec<Change> {
        self.locked(|books| books.sample.clone())
    }

    /// Returns how many kills took the connection of a request with them.
    pub(crate) fn kills_in_flight(&self) -> usize {
        self.locked(|books| books.broken.keys().collect::<BTreeSet<_>>().len())
    }

    /// Returns how many requests had no answer at their deadline.
    pub(crate) fn late(&self) -> u64 {
        self.locked(|books| books.late)
    }

    /// Returns how many changes the shop itself refused.
    pub(crate) fn rejected(&self) -> u64 {
        self.locked(|books| books.rejected)
    }

    /// Returns the run in one line.
    pub(crate) fn summary(&self) -> String {
        let answered = self.answered();
        let hits = self.kills_in_flight();
        self.locked(|books| {
            let broken: u64 = books.broken.values().sum();
            format!(
                "{hits} of {} kills hit work in flight ({broken} requests broken, {} connections \
                 refused); {answered} answers ({} rejected, {} checkouts) from {} attempts, \
                 {} late, put off: {:?};",
                super::KILLS,
                books.refused,
                books.rejected,
                books.checkouts.len(),
                books.attempts,
                books.late,
                books.postponed,
            )
        })
    }

    fn locked<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        look(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
