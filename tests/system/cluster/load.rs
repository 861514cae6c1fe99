//! Clients that restock under keys at any node, and repeat until they are answered; and what must
//! be true of what they were told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_tests::{Context, Deadline, Failure, Http, Request, Result, Seed, Stopwatch};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::nodes::{Addresses, Cluster};
use crate::shop::{ANSWER_SECONDS, call};

/// What is restocked: enough for every node to own some of it, wherever hashes put them.
pub(crate) const SKUS: [&str; 24] = [
    "tea", "jam", "oats", "rice", "salt", "soap", "milk", "figs", "beer", "corn", "dill", "eggs",
    "fish", "gin", "ham", "ice", "kale", "leek", "mint", "nuts", "oil", "peas", "rum", "yam",
];

const CLIENTS: u64 = 24;
/// How long a change may be repeated.
const PATIENCE_SECONDS: u64 = 60;

/// What clients ask for.
#[derive(Clone, Copy)]
pub(crate) struct Deed {
    /// The request that adds a quantity to a thing.
    pub(crate) request: fn(&str, i64) -> Request,
    /// Reads how much of it there is out of the answer.
    pub(crate) level: fn(&Value) -> Option<i64>,
}

/// Restocks the shop.
const RESTOCK: Deed = Deed {
    request: |sku, quantity| call("stock", sku, "restock", &json!({ "quantity": quantity })),
    level: Value::as_i64,
};

/// One acknowledged change of a stock, as its client saw it.
#[derive(Clone, Copy, Debug)]
struct Change {
    began: Duration,
    ended: Duration,
    quantity: i64,
    /// The level that the stock said it had then.
    level: i64,
}

struct Books {
    clock: Stopwatch,
    history: Mutex<BTreeMap<&'static str, Vec<Change>>>,
    answers: AtomicU64,
    answered: Notify,
    open: AtomicU64,
    /// Open requests by node.
    at: Vec<AtomicU64>,
    repeated: AtomicU64,
    ends: AtomicBool,
}

/// Clients at work.
pub(crate) struct Load {
    books: Arc<Books>,
    clients: tokio::sync::Mutex<JoinSet<Result<()>>>,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster, seed: Seed) -> Self {
        let nodes: Vec<_> = (0..cluster.len()).collect();
        Self::start_at(cluster, seed, &nodes)
    }

    /// Starts clients that only use these nodes.
    pub(crate) fn start_at(cluster: &Cluster, seed: Seed, nodes: &[usize]) -> Self {
        Self::of(RESTOCK, cluster, seed, nodes)
    }

    /// Starts clients that do something else than restocking.
    pub(crate) fn of(deed: Deed, cluster: &Cluster, seed: Seed, nodes: &[usize]) -> Self {
        let books = Arc::new(Books {
            clock: Stopwatch::start(),
            history: Mutex::default(),
            answers: AtomicU64::new(0),
            answered: Notify::new(),
            open: AtomicU64::new(0),
            at: (0..cluster.len()).map(|_| AtomicU64::new(0)).collect(),
            repeated: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client {
                deed,
                number,
                rng: seed.rng(number),
                books: books.clone(),
                addresses: cluster.addresses(),
                nodes: nodes.to_vec(),
            };
            clients.spawn(client.run());
        }
        Self {
            books,
            clients: clients.into(),
        }
    }

    /// Waits for so many more answers.
    pub(crate) async fn answered(&self, more: u64) -> Result<()> {
        let wanted = self.books.answers.load(Ordering::SeqCst) + more;
        let by = Deadline::seconds(PATIENCE_SECONDS);
        let waiting = by.limit("answers", async {
            loop {
                let news = self.books.answered.notified();
                if self.books.answers.load(Ordering::SeqCst) >= wanted {
                    return;
                }
                news.await;
            }
        });
        waiting.await
    }

    /// Waits until a node that is hidden has answered all that it was asked.
    pub(crate) async fn left(&self, node: usize) -> Result<()> {
        let by = Deadline::seconds(PATIENCE_SECONDS);
        by.poll("open requests", async || {
            (self.books.at[node].load(Ordering::SeqCst) == 0).then_some(())
        })
        .await
    }

    /// Returns how many requests are open.
    pub(crate) fn open(&self) -> u64 {
        self.books.open.load(Ordering::SeqCst)
    }

    /// Lets every client end what it has begun; returns how many attempts were repeated.
    pub(crate) async fn finish(&self) -> Result<u64> {
        self.books.ends.store(true, Ordering::SeqCst);
        let by = Deadline::seconds(PATIENCE_SECONDS);
        let mut clients = self.clients.lock().await;
        while let Some(end) = by.limit("the clients' end", clients.join_next()).await? {
            end.context("a client broke")??;
        }
        Ok(self.books.repeated.load(Ordering::SeqCst))
    }

    /// Returns how many changes were answered so far.
    pub(crate) fn count(&self) -> u64 {
        self.books.answers.load(Ordering::SeqCst)
    }

    /// Returns how many attempts were repeated so far.
    pub(crate) fn repeated(&self) -> u64 {
        self.books.repeated.load(Ordering::SeqCst)
    }

    /// Returns the levels that must be found, and fails unless each stock's answers are those of
    /// one that handles one change after another.
    ///
    /// Every change was acknowledged in the end, so the levels are a chain without a gap and
    /// without a repeat: nothing was lost, nothing counted twice. A change that was answered before
    /// another one began comes before it.
    pub(crate) fn levels(&self) -> BTreeMap<&'static str, i64> {
        let mut history = self.books.history().clone();
        for (sku, changes) in &mut history {
            changes.sort_by_key(|change| change.level);
            let (mut level, mut begun) = (0, Duration::ZERO);
            for change in changes {
                assert_eq!(change.level, level + change.quantity, "{sku}: {change:?}");
                assert!(begun <= change.ended, "{sku}: too late: {change:?}");
                level = change.level;
                begun = begun.max(change.began);
            }
        }
        let last = |changes: Vec<Change>| changes.last().map_or(0, |change| change.level);
        history
            .into_iter()
            .map(|(sku, changes)| (sku, last(changes)))
            .collect()
    }
}

impl Books {
    fn history(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<Change>>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    deed: Deed,
    number: u64,
    rng: fastrand::Rng,
    books: Arc<Books>,
    addresses: watch::Receiver<Addresses>,
    nodes: Vec<usize>,
}

impl Client {
    async fn run(mut self) -> Result<()> {
        let mut changes = 0;
        while !self.books.ends.load(Ordering::SeqCst) {
            changes += 1;
            let sku = SKUS[self.rng.usize(..SKUS.len())];
            let quantity = self.rng.i64(1..9);
            let began = self.books.clock.elapsed();
            let level = self.restock(sku, quantity, changes).await?;
            let change = Change {
                began,
                ended: self.books.clock.elapsed(),
                quantity,
                level: (self.deed.level)(&level).context(format!("a level, not {level}"))?,
            };
            self.books.history().entry(sku).or_default().push(change);
            self.books.answers.fetch_add(1, Ordering::SeqCst);
            self.books.answered.notify_waiters();
        }
        Ok(())
    }

    async fn restock(&mut self, sku: &str, quantity: i64, change: u64) -> Result<Value> {
        let by = Deadline::seconds(PATIENCE_SECONDS);
        let key = format!("{}-{change}", self.number);
        let request = (self.deed.request)(sku, quantity).key(&key);
        let mut last = String::new();
        while !by.is_past() {
            let Some((node, mut http)) = self.any_node() else {
                let _ = by.limit("a node", self.addresses.changed()).await?;
                continue;
            };
            self.books.open.fetch_add(1, Ordering::SeqCst);
            let answer = http.send(&request, Deadline::seconds(ANSWER_SECONDS)).await;
            self.books.open.fetch_sub(1, Ordering::SeqCst);
            self.books.at[node].fetch_sub(1, Ordering::SeqCst);
            last = match answer {
                Ok(answer) if answer.status == 200 => return answer.json(),
                Ok(answer) if matches!(answer.status, 409 | 422 | 400 | 404 | 500) => {
                    let text = format!("{request:?}: {} {}", answer.status, answer.text());
                    return Err(Failure::new(text));
                }
                other => format!("{other:?}"),
            };
            self.books.repeated.fetch_add(1, Ordering::SeqCst);
            println!("repeated: {key} {sku}: {last}");
            Deadline::after(Duration::from_millis(20)).wait().await;
        }
        Err(Failure::new(format!("{key} was not answered: {last}")))
    }

    /// Returns one of the nodes that run, and the way to it; a request to it counts as open.
    fn any_node(&mut self) -> Option<(usize, Http)> {
        let addresses = self.addresses.borrow_and_update();
        let there: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| Some((*node, addresses[*node]?)))
            .collect();
        let (node, at) = *there.get(self.rng.usize(..there.len().max(1)))?;
        // Under the borrow: who hides a node sees the request, or the client does not see the node.
        self.books.at[node].fetch_add(1, Ordering::SeqCst);
        Some((node, Http::to(at)))
    }
}
