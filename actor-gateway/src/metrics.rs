//! `GET /metrics`: the process's counts as Prometheus text.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actor_cluster::{
    node::{SingletonState, SingletonStatus},
    transport::{Direction, LinkSnapshot, LinkState},
};
use actor_core::{clock::Clock, clock::Instant, hosting::Hosting};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{gateway::Shared, rejection::Rejection};

/// How often samples of histograms are folded into their buckets; else they would pile up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// How old the count of stuck work may be.
const STUCK_EVERY: Duration = Duration::from_secs(10);

/// Seconds, from a local call to a call that waits for its deadline.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 5.0, 30.0,
];

/// Items of one commit.
const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// The histograms with their buckets. What is not listed here would be a summary.
const HISTOGRAMS: [(&str, &[f64], &str); 6] = [
    (
        "actor_call_duration",
        &SECONDS,
        "Seconds from a call to its answer",
    ),
    ("actor_commit_duration", &SECONDS, "Seconds one commit took"),
    ("actor_commit_batch_size", &ITEMS, "Items in one commit"),
    (
        "actor_timer_lateness",
        &SECONDS,
        "Seconds a timer fired after it was due",
    ),
    (
        "actor_lease_renewal_duration",
        &SECONDS,
        "Seconds a renewal of the node's lease took",
    ),
    (
        "actor_handoff_duration",
        &SECONDS,
        "Seconds from the start of giving shards away until some were empty",
    ),
];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder; the first call in a process does it.
pub(crate) fn install() {
    RECORDER.get_or_init(|| match build() {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::warn!(error, "metrics are not recorded here");
            None
        }
    });
}

fn build() -> Result<PrometheusHandle, String> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets, _) in HISTOGRAMS {
        let matcher = Matcher::Full(name.to_owned());
        let set = builder.set_buckets_for_metric(matcher, buckets);
        builder = set.map_err(|error| error.to_string())?;
    }
    let handle = builder
        .install_recorder()
        .map_err(|error| error.to_string())?;
    for (name, _, help) in HISTOGRAMS {
        metrics::describe_histogram!(name, help);
    }
    metrics::describe_gauge!("actor_sessions", "Open sockets and event streams");
    metrics::describe_gauge!("actor_stuck", "Due work that nothing moves; must be 0");
    metrics::describe_gauge!("actor_nodes", "Nodes that are up, as this one last saw it");
    metrics::describe_gauge!("actor_shards_owned", "Shards this node owns");
    metrics::describe_gauge!("actor_links", "Links to and from other nodes that are up");
    metrics::describe_gauge!(
        "actor_link_queue_bytes",
        "Bytes that wait to be written to peers"
    );
    metrics::describe_gauge!("actor_singletons", "Singletons that run on this node");
    metrics::describe_gauge!(
        "actor_held",
        "Due messages that wait for a reason with a name"
    );
    metrics::describe_gauge!(
        "actor_oldest_xmin_age_seconds",
        "For how long a transaction has kept the database from clearing dead rows away"
    );
    metrics::describe_gauge!("actor_dead_rows", "Dead rows that are still in the tables");
    metrics::describe_gauge!("actor_entities", "Activations in memory");
    metrics::describe_gauge!("actor_mailbox_depth", "Messages running and queued");
    metrics::describe_counter!("actor_calls_total", "Calls by how they ended");
    metrics::describe_counter!(
        "actor_room_searches_total",
        "Looks for idle entities at the bound on those in memory"
    );
    metrics::describe_counter!("actor_slow_clients_total", "Listeners that fell behind");
    Ok(handle)
}

/// Folds samples until the task that runs it ends.
pub(crate) async fn keep_up() {
    install();
    while let Some(Some(handle)) = RECORDER.get() {
        Clock.sleep(UPKEEP_EVERY).await;
        handle.run_upkeep();
    }
}

/// The last count of stuck work.
#[derive(Debug, Default)]
pub(crate) struct Stuck(Mutex<Option<(Instant, usize)>>);

impl Stuck {
    /// Returns a count at most ten seconds old; `None` if the store does not answer.
    pub(crate) async fn count(&self, hosting: &Arc<Hosting>) -> Option<usize> {
        let now = hosting.now();
        let last = *self.lock();
        if let Some((at, count)) = last
            && now.saturating_duration_since(at) < STUCK_EVERY
        {
            return Some(count);
        }
        let count = hosting.stuck().await;
        let count = count.inspect_err(|error| tracing::warn!(%error, "stuck work is not known"));
        let count = count.ok()?;
        *self.lock() = Some((now, count));
        Some(count)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets what is counted anew for each look. Links may have come up before anything was recorded,
/// and a node that is alone never looks for others.
fn publish_cluster(shared: &Shared) {
    let hosting = shared.client.hosting();
    if hosting.shards().lease_left(hosting.now()).is_none() {
        metrics::gauge!("actor_nodes").set(1.0);
    }
    let cluster = shared.cluster();
    let runs = |singleton: &&SingletonStatus| {
        matches!(
            singleton.state,
            SingletonState::Runs | SingletonState::Stops
        )
    };
    let running = cluster.singletons.iter().filter(runs).count();
    metrics::gauge!("actor_singletons").set(running as f64);
    metrics::gauge!("actor_stuck", "what" => "unowned").set(cluster.stuck_unowned as f64);
    let links = cluster.links;
    for (direction, name) in [
        (Direction::Dialled, "dialled"),
        (Direction::Accepted, "accepted"),
    ] {
        let up = |link: &&LinkSnapshot| link.direction == direction && link.state == LinkState::Up;
        let up = links.iter().filter(up).count();
        metrics::gauge!("actor_links", "direction" => name).set(up as f64);
    }
    let queued: u64 = links.iter().map(|link| link.queue_bytes).sum();
    metrics::gauge!("actor_link_queue_bytes").set(queued as f64);
}

/// Renders everything.
pub(crate) async fn render(State(shared): State<Arc<Shared>>) -> Result<Response, Rejection> {
    let Some(Some(handle)) = RECORDER.get() else {
        let text = "another recorder was installed before ours";
        return Err(Rejection::new("unavailable", text));
    };
    let hosting = shared.client.hosting();
    hosting.publish_metrics();
    metrics::gauge!("actor_sessions").set(shared.sessions.count() as f64);
    metrics::counter!("actor_slow_clients_total").increment(0);
    publish_cluster(&shared);
    if let Some(stuck) = shared.stuck.count(hosting).await {
        metrics::gauge!("actor_stuck", "what" => "message").set(stuck as f64);
    }
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((content_type, handle.render()).into_response())
}
