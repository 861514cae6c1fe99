//! A cluster of shops on a schema of its own, each behind proxies if a test wants that.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use actor_tests::{
    Context, Deadline, Failure, Http, Metrics, Program, Result, Running,
    postgres::Postgres,
    proxy::{End, Proxy},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{certificates::Authority, records::Records};
use crate::shop::{START_SECONDS, ready};

/// How long the cluster may take to agree on who owns what.
const AGREE_SECONDS: u64 = 40;

/// Enough shards for every node to have some of each sort; fewer than the default, because a
/// cluster that grows moves only 16 a second.
pub(super) const SHARDS: f64 = 48.0;

/// What becomes a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// How long a lease is.
    pub(crate) lease: &'static str,
    /// Whether the nodes' links and database connections go by way of proxies.
    pub(crate) proxied: bool,
    /// Whether the nodes' links are TLS, with certificates of one authority.
    pub(crate) secured: bool,
    pub(crate) program: fn(&Path) -> Result<Program>,
}

impl Plan {
    /// Three shops with a short lease behind proxies.
    pub(crate) fn proxied() -> Self {
        Self {
            nodes: 3,
            lease: "2s",
            proxied: true,
            secured: false,
            program: Program::shop,
        }
    }
}

/// The proxies of one node.
pub(crate) struct Ways {
    /// Where the others dial it.
    pub(crate) links: Proxy,
    /// Where it dials its database.
    pub(crate) database: Proxy,
}

struct Node {
    program: Program,
    ways: Option<Ways>,
    running: Option<Running>,
    http: Option<Http>,
}

/// Returns one of the lists that a node shows.
pub(super) fn list<'a>(seen: &'a Value, name: &str) -> &'a [Value] {
    seen[name].as_array().map_or(&[], Vec::as_slice)
}

/// Where each node listens, while it does.
pub(crate) type Addresses = Vec<Option<SocketAddr>>;

/// Nodes that share a database.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    addresses: watch::Sender<Addresses>,
    /// The database as the test sees it, by no proxy.
    pub(crate) records: Records,
    _folder: TempDir,
}

impl Cluster {
    /// Starts shops with a short lease.
    pub(crate) async fn start(nodes: usize) -> Result<Self> {
        let plan = Plan::proxied();
        Self::start_as(Plan {
            nodes,
            proxied: false,
            ..plan
        })
        .await
    }

    /// Starts the nodes of a plan, and waits until each has its share if there are several.
    pub(crate) async fn start_as(plan: Plan) -> Result<Self> {
        let server = tokio::task::spawn_blocking(Postgres::get)
            .await
            .context("the server starts")?;
        let schema = Postgres::new_schema();
        let folder = tempfile::tempdir()?;
        let authority = match plan.secured {
            true => Some(Authority::new(folder.path())?),
            false => None,
        };
        let mut nodes = Vec::new();
        for number in 0..plan.nodes {
            let ways = match plan.proxied {
                true => Some(ways(server).await?),
                false => None,
            };
            let url = match &ways {
                Some(ways) => server.url_by(ways.database.address().port()),
                None => server.url.clone(),
            };
            let program = (plan.program)(folder.path())?
                .setting("DATABASE_URL", format!("{url}?schema={schema}"))
                .setting("ACTOR_NODE_NAME", format!("shop-{number}"))
                .setting("ACTOR_CLUSTER_SECRET", "known to the tests only")
                .setting("ACTOR_SHARDS", SHARDS.to_string())
                .setting("ACTOR_LEASE_TTL", plan.lease);
            let program = match &authority {
                Some(authority) => authority.secure(program, folder.path(), number)?,
                None => program,
            };
            nodes.push(Node {
                program,
                ways,
                running: None,
                http: None,
            });
        }
        let mut cluster = Self {
            addresses: watch::Sender::new(vec![None; nodes.len()]),
            nodes,
            records: Records::new(format!("{}?schema={schema}", server.url)),
            _folder: folder,
        };
        for number in 0..plan.nodes {
            cluster.start_again(number).await?;
            if number == 0 {
                cluster.records.watch().await?;
            }
        }
        if plan.nodes > 1 {
            cluster.is_balanced().await?;
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

    /// Starts another program in this node's place from its next start on.
    pub(crate) fn replace(&mut self, node: usize, change: impl FnOnce(Program) -> Program) {
        let program = self.nodes[node].program.clone();
        self.nodes[node].program = change(program);
    }

    /// Returns the proxies of a node.
    pub(crate) fn ways(&self, node: usize) -> &Ways {
        self.nodes[node]
            .ways
            .as_ref()
            .expect("the plan has proxies")
    }

    /// Ends every link of the cluster; returns how many there were.
    pub(crate) fn cut_links(&self, end: End) -> usize {
        let ways = self.nodes.iter().filter_map(|node| node.ways.as_ref());
        ways.map(|ways| ways.links.end_all(end)).sum()
    }

    /// Returns the way to a node that runs.
    pub(crate) fn http(&mut self, node: usize) -> &mut Http {
        self.nodes[node].http.as_mut().expect("the node runs")
    }

    pub(crate) fn running(&mut self, node: usize) -> &mut Running {
        self.nodes[node].running.as_mut().expect("the node runs")
    }

    /// Sends clients to the other nodes, as a load balancer does before a node ends.
    pub(crate) fn hide(&self, node: usize) {
        self.is_at(node, None);
    }

    fn is_at(&self, node: usize, address: Option<SocketAddr>) {
        self.addresses.send_modify(|all| all[node] = address);
    }

    pub(crate) async fn start_again(&mut self, node: usize) -> Result<()> {
        let by = Deadline::seconds(START_SECONDS);
        let place = &mut self.nodes[node];
        if let Some(ways) = &place.ways {
            // Chosen anew: a former life may be frozen and still have its port.
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            ways.links.aim(port);
            ways.links.open_door().await?;
            let advertised = ways.links.address().to_string();
            place.program = place
                .program
                .clone()
                .setting("ACTOR_CLUSTER_LISTEN", port.to_string())
                .setting("ACTOR_CLUSTER_ADVERTISE", advertised);
        }
        let running = place.program.start(by).await?;
        let http = ready(&running).await?;
        let address = running.address(by).await?;
        (place.running, place.http) = (Some(running), Some(http));
        self.is_at(node, Some(address));
        Ok(())
    }

    pub(crate) async fn kill(&mut self, node: usize) -> Result<()> {
        self.running(node).kill().await?;
        self.gone(node).await;
        Ok(())
    }

    /// Stops a node in order and waits for its end.
    pub(crate) async fn terminate(&mut self, node: usize) -> Result<()> {
        self.asked_to_end(node)?;
        self.ended_in_order(node).await
    }

    /// Asks a node to end and does not wait.
    pub(crate) fn asked_to_end(&mut self, node: usize) -> Result<()> {
        self.is_at(node, None);
        self.running(node).terminate()
    }

    pub(crate) async fn ended_in_order(&mut self, node: usize) -> Result<()> {
        let status = self.running(node).ended(Deadline::seconds(40)).await?;
        assert_eq!(status.code(), Some(0), "a terminated node ends with");
        self.gone(node).await;
        Ok(())
    }

    /// Where a dead program listened nobody answers.
    async fn gone(&self, node: usize) {
        self.is_at(node, None);
        if let Some(ways) = &self.nodes[node].ways {
            ways.links.close_door().await;
        }
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
        self.says(node, "the node stops serving").await?;
        self.gone(node).await;
        Ok(())
    }

    /// Waits for a line of a node's log.
    pub(crate) async fn says(&mut self, node: usize, words: &str) -> Result<()> {
        let by = Deadline::seconds(AGREE_SECONDS);
        let log = self.running(node).log().clone();
        log.find(words, by, |_, line| line.contains(words).then_some(()))
            .await
    }

    /// Returns how often a node's log has these words.
    pub(crate) fn said(&mut self, node: usize, words: &str) -> usize {
        let lines = self
            .running(node)
            .log()
            .lines(actor_tests::log::Stream::Err);
        lines.iter().filter(|line| line.contains(words)).count()
    }

    /// Returns a sum of a node's metrics; 0 for what was never counted.
    pub(crate) async fn metric(&mut self, node: usize, name: &str) -> Result<f64> {
        let text = self.http(node).text("/metrics").await?;
        Ok(Metrics::parse(&text)?.sum(name).unwrap_or_default())
    }

    async fn owned(&mut self, node: usize) -> Result<f64> {
        self.metric(node, "actor_shards_owned").await
    }

    /// Waits until every shard is owned and every node has its share.
    pub(crate) async fn is_balanced(&mut self) -> Result<()> {
        // Placement bounds what a node has at most; how little one has is up to the names' hashes.
        let least = SHARDS / self.len() as f64 * 0.6;
        self.own(
            "its share",
            |owned| {
                owned.iter().sum::<f64>() == SHARDS && owned.iter().all(|owned| *owned >= least)
            },
            None,
        )
        .await
    }

    /// Waits until the others own everything.
    pub(crate) async fn owns_nothing(&mut self, node: usize) -> Result<()> {
        let all = |owned: &[f64]| owned.iter().sum::<f64>() == SHARDS;
        self.own("nothing", all, Some(node)).await
    }

    /// Waits until the nodes that can be asked own as wanted.
    async fn own(
        &mut self,
        what: &str,
        wanted: impl Fn(&[f64]) -> bool,
        but: Option<usize>,
    ) -> Result<()> {
        let by = Deadline::seconds(AGREE_SECONDS);
        let mut last = Vec::new();
        while !by.is_past() {
            last.clear();
            for node in (0..self.len()).filter(|node| Some(*node) != but) {
                last.push(self.owned(node).await?);
            }
            if wanted(&last) {
                return Ok(());
            }
            Deadline::after(Duration::from_millis(50)).wait().await;
        }
        let but = but.map_or_else(String::new, |node| format!(" but node {node}"));
        Err(Failure::new(format!(
            "all nodes{but} own {last:?} shards, so somebody does not own {what}"
        )))
    }

    /// Waits until a node's links to and from all others are up.
    pub(crate) async fn is_linked(&mut self, node: usize) -> Result<()> {
        let wanted = 2 * (self.len() - 1);
        let what = format!("all links of node {node}");
        let by = Deadline::seconds(AGREE_SECONDS);
        by.poll(&what, async || {
            let seen = self.seen(node).await.ok()?;
            let up = list(&seen, "links")
                .iter()
                .filter(|link| link["state"] == "up");
            (up.count() == wanted).then_some(())
        })
        .await
    }

    /// Returns what a node shows operators of the cluster.
    pub(crate) async fn seen(&mut self, node: usize) -> Result<Value> {
        let text = self.http(node).text("/admin/api/nodes").await?;
        serde_json::from_str(&text).context("the answer is JSON")
    }

    /// Ends all nodes in order, and looks at what they did to the map.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for node in 0..self.len() {
            self.terminate(node).await?;
        }
        let changes = self.records.one_owner_for_each_epoch().await?;
        println!("{changes} changes of the shard map, one owner for each epoch");
        Ok(())
    }
}

/// Makes the proxies of a node; where its links lead is known when it starts.
async fn ways(server: &Postgres) -> Result<Ways> {
    let (host, port) = server.address();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let links = Proxy::start(nowhere).await?;
    links.close_door().await;
    Ok(Ways {
        links,
        database: Proxy::start(format!("{host}:{port}").parse()?).await?,
    })
}
