//! A cluster of shops on a schema of its own.

use std::net::SocketAddr;

use actor_tests::{
    Context, Deadline, Failure, Http, Metrics, Program, Result, Running, Stopwatch,
    postgres::Postgres,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::shop::{START_SECONDS, call, ready};

/// How long the cluster may take to agree on who owns what.
const AGREE_SECONDS: u64 = 40;

/// Entities asked for after a kill: some of each node.
const ENTITIES: usize = 32;

/// The shards of the shop, as the settings have them by default.
pub(super) const SHARDS: f64 = 512.0;

struct Node {
    program: Program,
    running: Option<Running>,
    http: Option<Http>,
}

/// Where each node listens, while it does.
pub(crate) type Addresses = Vec<Option<SocketAddr>>;

/// Nodes that share a database.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    addresses: watch::Sender<Addresses>,
    _folder: TempDir,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Result<Self> {
        let server = tokio::task::spawn_blocking(Postgres::get)
            .await
            .context("the server starts")?;
        let (url, schema) = (&server.url, Postgres::new_schema());
        let folder = tempfile::tempdir()?;
        let mut nodes = Vec::new();
        for number in 0..count {
            let program = Program::shop(folder.path())?
                .setting("DATABASE_URL", format!("{url}?schema={schema}"))
                .setting("ACTOR_NODE_NAME", format!("shop-{number}"))
                .setting("ACTOR_CLUSTER_SECRET", "known to the tests only")
                .setting("ACTOR_LEASE_TTL", "2s");
            nodes.push(Node {
                program,
                running: None,
                http: None,
            });
        }
        let mut cluster = Self {
            nodes,
            addresses: watch::Sender::new(vec![None; count]),
            _folder: folder,
        };
        for number in 0..count {
            cluster.start_again(number).await?;
        }
        Ok(cluster)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn addresses(&self) -> watch::Receiver<Addresses> {
        self.addresses.subscribe()
    }

    pub(crate) fn program(&self, node: usize) -> &Program {
        &self.nodes[node].program
    }

    /// Returns the way to a node that runs.
    pub(crate) fn http(&mut self, node: usize) -> &mut Http {
        self.nodes[node].http.as_mut().expect("the node runs")
    }

    fn running(&mut self, node: usize) -> &mut Running {
        self.nodes[node].running.as_mut().expect("the node runs")
    }

    fn is_at(&self, node: usize, address: Option<SocketAddr>) {
        self.addresses.send_modify(|all| all[node] = address);
    }

    pub(crate) async fn start_again(&mut self, node: usize) -> Result<()> {
        let by = Deadline::seconds(START_SECONDS);
        let running = self.nodes[node].program.start(by).await?;
        let http = ready(&running).await?;
        let address = running.address(by).await?;
        (self.nodes[node].running, self.nodes[node].http) = (Some(running), Some(http));
        self.is_at(node, Some(address));
        Ok(())
    }

    pub(crate) async fn kill(&mut self, node: usize) -> Result<()> {
        self.running(node).kill().await?;
        self.is_at(node, None);
        Ok(())
    }

    /// Stops a node in order and waits for its end.
    pub(crate) async fn terminate(&mut self, node: usize) -> Result<()> {
        self.is_at(node, None);
        self.running(node).terminate()?;
        let status = self.running(node).ended(Deadline::seconds(40)).await?;
        assert_eq!(status.code(), Some(0), "a terminated node ends with");
        Ok(())
    }

    pub(crate) fn freeze(&mut self, node: usize) -> Result<()> {
        self.running(node).pause()
    }

    pub(crate) fn thaw(&mut self, node: usize) -> Result<()> {
        self.running(node).resume()
    }

    /// Waits until a node that lost its lease has ended.
    pub(crate) async fn ends(&mut self, node: usize) -> Result<()> {
        self.is_at(node, None);
        let status = self.running(node).ended(Deadline::seconds(40)).await?;
        assert_eq!(status.code(), Some(1), "a node without a lease ends with");
        Ok(())
    }

    async fn owned(&mut self, node: usize) -> Result<f64> {
        let text = self.http(node).text("/metrics").await?;
        let metrics = Metrics::parse(&text)?;
        metrics.sum("actor_shards_owned").context("the gauge")
    }

    /// Waits until every shard is owned and every node has its share.
    pub(crate) async fn is_balanced(&mut self) -> Result<()> {
        let by = Deadline::seconds(AGREE_SECONDS);
        let least = SHARDS / self.len() as f64 * 0.7;
        let mut last = Vec::new();
        while !by.is_past() {
            last.clear();
            for node in 0..self.len() {
                last.push(self.owned(node).await?);
            }
            if last.iter().sum::<f64>() == SHARDS && last.iter().all(|owned| *owned >= least) {
                return Ok(());
            }
            Deadline::after(std::time::Duration::from_millis(50))
                .wait()
                .await;
        }
        Err(Failure::new(format!("the nodes own {last:?} shards")))
    }

    /// Waits until the others own everything.
    pub(crate) async fn owns_nothing(&mut self, node: usize) -> Result<()> {
        let by = Deadline::seconds(AGREE_SECONDS);
        let mut sum = 0.0;
        while !by.is_past() {
            sum = 0.0;
            for other in (0..self.len()).filter(|other| *other != node) {
                sum += self.owned(other).await?;
            }
            if sum == SHARDS {
                return Ok(());
            }
            Deadline::after(std::time::Duration::from_millis(50))
                .wait()
                .await;
        }
        Err(Failure::new(format!("the others own {sum} shards")))
    }

    /// Asks a survivor for many entities until all have answered; returns how long that took.
    pub(crate) async fn answers_again(&mut self, dead: usize) -> Result<std::time::Duration> {
        let began = Stopwatch::start();
        let other = (dead + 1) % self.len();
        let by = Deadline::seconds(AGREE_SECONDS);
        for entity in 0..ENTITIES {
            let request = call("stock", &format!("sku-{entity}"), "level", &json!({}));
            loop {
                let answer = self.http(other).send(&request, by).await;
                match answer {
                    Ok(answer) if answer.status == 200 => break,
                    other if by.is_past() => {
                        return Err(Failure::new(format!("sku-{entity}: {other:?}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(began.elapsed())
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        for node in 0..self.len() {
            self.terminate(node).await?;
        }
        Ok(())
    }
}
