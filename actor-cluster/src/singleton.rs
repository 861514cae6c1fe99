//! Work of which the whole cluster does one at a time.
//!
//! A singleton's name hashes to a shard, as an entity's id does, and it runs where that shard is
//! owned. So it moves with handoffs, follows its node's death, and has a number that grows with
//! each owner. What differs from an entity: it waits until no former owner can run it any more,
//! also where that owner was declared dead early (architecture D3), and nothing calls it.
//!
//! Not here: which node owns the shard.

mod gate;
mod seat;

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_core::{
    Client, Failure, NodeId, Result, ShardId, clock::Clock, hosting::Hosting, id::Epoch,
    news::News, store::BoxFuture,
};
use serde::Serialize;

use self::seat::Seat;

/// The kind under which a singleton's name is hashed; it decides nothing but the shard.
const KIND: &str = "actor:singleton";

/// How singletons of the framework's own are named. Nobody else's may be.
const OURS: &str = "actor:";

/// What a running singleton is handed: a [`Client`] that knows when to stop.
///
/// ```
/// use std::time::Duration;
///
/// use actor_cluster::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), actor_cluster::StartError> {
/// let node = Node::builder()
///     .database_url("sqlite::memory:")
///     .singleton("nightly-report", |singleton| async move {
///         while singleton.pause(Duration::from_secs(3600)).await {
///             // call entities, start sagas, talk to the outside
///         }
///         Ok(())
///     })
///     .start()
///     .await?;
/// # node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Singleton {
    client: Client,
    name: Arc<str>,
    shard: ShardId,
    stopping: Arc<Stop>,
}

/// Whether a run was told to end.
#[derive(Debug, Default)]
struct Stop {
    told: AtomicBool,
    news: News,
}

impl Stop {
    fn tell(&self) {
        self.told.store(true, Ordering::SeqCst);
        self.news.tell();
    }
}

impl Singleton {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the node it runs on.
    pub fn node(&self) -> &NodeId {
        self.hosting().shards().node()
    }

    /// Returns a number that is higher at each later owner: hand it to systems outside that can
    /// refuse a lower one than they saw. `None` once the shard is lost.
    pub fn epoch(&self) -> Option<Epoch> {
        self.hosting().shards().epoch(self.shard)
    }

    /// Completes when it has to end: its shard moves, or its node stops. Whoever has not ended
    /// within the time of a handoff, 5 s, or of a drain, is dropped.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn stopping(&self) {
        loop {
            let seen = self.stopping.news.version();
            if self.is_stopping() {
                return;
            }
            self.stopping.news.after(seen).await;
        }
    }

    /// Says whether it has to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.told.load(Ordering::SeqCst)
    }

    /// Waits; says whether it may go on. Ends early, with false, when it has to end.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn pause(&self, duration: Duration) -> bool {
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.stopping() => false,
            () = Clock.sleep(duration) => true,
        }
    }
}

impl Deref for Singleton {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What a singleton of a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SingletonState {
    /// Another node owns its shard, or nobody does.
    Elsewhere,
    /// This node owns its shard, and a former owner may not know yet that it lost it.
    Waits,
    /// It runs.
    Runs,
    /// It was told to end and has not yet.
    Stops,
    /// It failed and is started again after a pause.
    Backoff,
    /// It returned `Ok`: it runs again when its shard has another owner.
    Done,
}

/// A singleton as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SingletonStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its shard; the shard's owner is the node that runs it.
    pub shard: u32,
    /// What it does here.
    pub state: SingletonState,
    /// How long it has been doing that, in milliseconds.
    pub for_ms: u64,
    /// How often it was started again after a failure, by this life of the node.
    pub restarts: u64,
    /// Why it failed last.
    pub trouble: Option<String>,
}

/// What a singleton does: a function that is called for each run.
type Body = Arc<dyn Fn(Singleton) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// The singletons a node is built with. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Roster(Vec<(Arc<str>, Body)>);

impl Roster {
    /// Adds one; it is refused later if its name is no good.
    pub(crate) fn add<F, R>(&mut self, name: &str, body: F)
    where
        F: Fn(Singleton) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let body: Body = Arc::new(move |singleton| Box::pin(body(singleton)));
        self.0.push((name.into(), body));
    }

    /// Says whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses names that are no good.
    pub(crate) fn check(&self) -> Result<()> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if name.is_empty() || name.starts_with(OURS) {
                let text = format!(
                    "a singleton is named `{name}`: accepted is a text that does \
                     not begin with `{OURS}`"
                );
                return Err(Failure::fatal("singleton_name", text));
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                let text =
                    format!("two singletons are named `{name}`: give each a name of its own");
                return Err(Failure::fatal("singleton_clash", text));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

/// Where all singletons of a node are told to end, shards or no shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Halt {
    No,
    /// Each may end by itself.
    Told,
    /// What has not ended is dropped.
    Cut,
}

/// What the singletons of a node share.
#[derive(Debug)]
struct Stage {
    hosting: Arc<Hosting>,
    halt: Mutex<Halt>,
    /// How many run.
    running: AtomicUsize,
    /// Of both.
    news: News,
}

impl Stage {
    fn halt(&self, how: Halt) {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner) = how;
        self.news.tell();
    }

    fn halted(&self) -> Halt {
        *self.halt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until none runs.
    async fn is_empty(&self) {
        loop {
            let seen = self.news.version();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            self.news.after(seen).await;
        }
    }
}

/// The singletons of one life of a node.
#[derive(Debug)]
pub(crate) struct Singletons {
    stage: Arc<Stage>,
    seats: Vec<Arc<Seat>>,
}

impl Singletons {
    pub(crate) fn new(roster: Roster, hosting: Arc<Hosting>) -> Self {
        let stage = Arc::new(Stage {
            hosting,
            halt: Mutex::new(Halt::No),
            running: AtomicUsize::new(0),
            news: News::default(),
        });
        let seats = roster.0.into_iter().map(|(name, body)| {
            let shard = stage.hosting.shard_of(KIND, &name);
            Arc::new(Seat::new(name, shard, body, stage.clone()))
        });
        Self {
            seats: seats.collect(),
            stage,
        }
    }

    /// Returns the tasks that run them; each ends with its node.
    pub(crate) fn tasks(&self) -> Vec<impl Future<Output = ()> + Send + use<>> {
        self.seats.iter().cloned().map(Seat::keep).collect()
    }

    /// Lets all end, each by itself until `within` has passed.
    pub(crate) async fn stop(&self, within: Duration) {
        self.stage.halt(Halt::Told);
        let deadline = Clock.now() + within;
        // Both arms only wait.
        tokio::select! {
            biased;
            () = self.stage.is_empty() => {}
            () = Clock.sleep_until(deadline) => {
                tracing::warn!("singletons that did not end in time are dropped");
            }
        }
        self.stage.halt(Halt::Cut);
    }

    /// Returns what each does, by name.
    pub(crate) fn status(&self) -> Vec<SingletonStatus> {
        let mut all: Vec<_> = self.seats.iter().map(|seat| seat.status()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}
