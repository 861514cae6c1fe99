//! The other nodes of a cluster: processes that are started, killed, frozen and drained.
//!
//! Not here: what such a process does (`companion`).

use std::{
    collections::BTreeMap,
    env,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use actor_core::{
    Failure, NodeId, Result,
    clock::Clock,
    store::{Store, ownership},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

use crate::{arguments::Plan, companion};

/// What the nodes of one run know. They listen on loopback.
pub(crate) const SECRET: &str = "known to one run of bench";

/// How long a node may take to start, to leave, or to get its part of the shards.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of its even share a node has at least when a cluster is settled, in percent: placement
/// gives nobody less.
const SHARE_PERCENT: usize = 60;

/// Returns the name of a node; 0 is the tool itself.
pub(crate) fn name(number: u32) -> String {
    format!("bench-{number}")
}

/// Returns the settings of a node as flags.
pub(crate) fn flags(plan: &Plan, url: &str, number: u32) -> Vec<String> {
    let ttl = format!("{}ms", plan.lease_ttl.as_millis());
    let flags = [
        ("--database-url", url.to_owned()),
        ("--node-name", name(number)),
        ("--cluster-secret", SECRET.to_owned()),
        ("--shards", plan.shards.to_string()),
        ("--lease-ttl", ttl),
    ];
    let words = flags.into_iter();
    words
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

/// One other node, over its lives.
#[derive(Debug)]
pub(crate) struct Companion {
    pub(crate) name: NodeId,
    number: u32,
    lives: u32,
    words: Vec<String>,
    child: Child,
    /// Kept here: to wait for a child closes its input, and with it it would end.
    orders: Option<ChildStdin>,
}

impl Companion {
    /// Starts the program; it is not a node before [`Companion::up`].
    pub(crate) fn launch(plan: &Plan, url: &str, residents: u32, number: u32) -> Result<Self> {
        let mut words = flags(plan, url, number);
        words.extend(["--residents".to_owned(), residents.to_string()]);
        let mut child = launch(&words)?;
        Ok(Self {
            name: NodeId::new(name(number)),
            number,
            lives: 1,
            orders: child.stdin.take(),
            child,
            words,
        })
    }

    /// Starts the program again after its end, under another name as a scheduler of containers
    /// does: a name that falls again and again waits for its part, which is not what is measured.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.lives += 1;
        let next = format!("{}-{}", name(self.number), self.lives);
        let flag = self.words.iter().position(|word| word == "--node-name");
        let at = flag.expect("it has a name") + 1;
        self.words[at].clone_from(&next);
        self.name = NodeId::new(next);
        self.child = launch(&self.words)?;
        self.orders = self.child.stdin.take();
        self.up().await
    }

    /// Waits until the node serves.
    pub(crate) async fn up(&mut self) -> Result<()> {
        let said = self.child.stdout.take().expect("taken once for each life");
        let mut lines = BufReader::new(said).lines();
        let line = within(PATIENCE, lines.next_line()).await;
        match line {
            Some(Ok(Some(line))) if line == companion::UP => Ok(()),
            said => {
                let text = format!("{} does not start: {said:?}", self.name);
                Err(Failure::fatal("no_node", text))
            }
        }
    }

    /// Kills it with `kill -9`; it is gone when this returns.
    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.child.start_kill()?)
    }

    /// Stops it where it is, until [`Companion::thaw`].
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Tells it to leave in order.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        let orders = self.orders.as_mut().expect("its input is piped");
        orders.write_all(companion::DRAIN.as_bytes()).await?;
        orders.write_all(b"\n").await?;
        Ok(())
    }

    /// Waits until the program has ended.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        match within(PATIENCE, self.child.wait()).await {
            Some(status) => Ok(status?),
            None => {
                let text = format!("{} does not end", self.name);
                Err(Failure::fatal("no_end", text))
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = id.and_then(Pid::from_raw) else {
            let text = format!("{} has ended", self.name);
            return Err(Failure::fatal("no_node", text));
        };
        kill_process(pid, signal).map_err(|error| Failure::new("signal", error))
    }
}

/// Waits for something that may be dropped while it waits; `None` when the time is over.
async fn within<T>(time: Duration, wait: impl Future<Output = T>) -> Option<T> {
    let mut wait = pin!(wait);
    // Both arms only wait.
    tokio::select! {
        biased;
        done = &mut wait => Some(done),
        () = Clock.sleep(time) => None,
    }
}

fn launch(words: &[String]) -> Result<Child> {
    let child = Command::new(env::current_exe()?)
        .arg(companion::WORD)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

/// Returns how many shards each node owns by the database; those without an owner under no name.
pub(crate) async fn shares(store: &Store) -> Result<BTreeMap<Option<NodeId>, usize>> {
    let mut shares = BTreeMap::new();
    for owner in owners(store).await? {
        *shares.entry(owner).or_default() += 1;
    }
    Ok(shares)
}

/// Returns the owner of each shard by the database.
pub(crate) async fn owners(store: &Store) -> Result<Vec<Option<NodeId>>> {
    let rows = store.read("owners", |c| Box::pin(ownership::list(c)));
    let owners = rows.await?.into_iter();
    Ok(owners.map(|row| row.owner.map(|(node, _)| node)).collect())
}

/// Waits until each of so many nodes owns its part and nothing has moved for `rest`.
pub(crate) async fn settled(store: &Store, nodes: u32, rest: Duration) -> Result<()> {
    let by = Clock.now() + PATIENCE;
    let (mut before, mut since) = (BTreeMap::new(), Clock.now());
    loop {
        let shares = shares(store).await?;
        let all: usize = shares.values().sum();
        let least = all * SHARE_PERCENT / 100 / nodes as usize;
        let parts = shares
            .iter()
            .filter(|(owner, share)| owner.is_some() && **share >= least);
        let all_have_theirs = parts.count() >= nodes as usize;
        let free = shares.contains_key(&None);
        if free || shares != before {
            since = Clock.now();
        }
        if Clock.now() - since >= rest && all_have_theirs {
            return Ok(());
        }
        if Clock.now() >= by {
            let text = format!("the shards do not come to rest: {shares:?}");
            return Err(Failure::fatal("not_settled", text));
        }
        before = shares;
        Clock.sleep(LOOK_EVERY).await;
    }
}
