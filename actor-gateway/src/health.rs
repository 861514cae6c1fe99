//! `/health/live`, `/health/ready`, `/health/startup`: what an orchestrator asks.
//!
//! Live: the process answers. Ready: it takes work now. Startup: it was ready once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actor_cluster::shard::candidates;
use actor_core::{Refusal, hosting::Hosting, store::nodes};
use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{gateway::Shared, request, topics};

/// How soon a node that may own shards has some.
const SHARDS_WITHIN: Duration = Duration::from_secs(5);

/// How long the store may take to answer a probe.
const STORE_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    checks: Vec<Check>,
}

/// Answers as long as the process does.
pub(crate) async fn live() -> Response {
    report(vec![check("process", Ok("answers".to_owned()))])
}

/// Answers 200 while the node takes work.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let drain = topics::drain(&mut parts, &shared).await;
    let mut checks = readiness(&shared).await;
    let serving = if drain.has_begun() {
        Err("draining")
    } else {
        Ok("open")
    };
    checks.push(check(
        "gateway",
        serving.map(str::to_owned).map_err(str::to_owned),
    ));
    report(checks)
}

/// Answers 200 once the node has been ready.
pub(crate) async fn startup(State(shared): State<Arc<Shared>>) -> Response {
    if shared.started.load(Ordering::Relaxed) {
        return report(vec![check("startup", Ok("done".to_owned()))]);
    }
    report(readiness(&shared).await)
}

async fn readiness(shared: &Shared) -> Vec<Check> {
    let hosting = shared.client.hosting();
    let shards = hosting.shards();
    let lease = match shards.lease_left(hosting.now()) {
        None => Ok("held by a lock".to_owned()),
        Some(Duration::ZERO) => Err("the lease ran out".to_owned()),
        Some(left) => Ok(format!("{} ms left", left.as_millis())),
    };
    let owned = shards.owned().len();
    let owned = match owned {
        0 if shared.only_sends() => Ok("it only sends".to_owned()),
        0 => {
            let back = held_back(shared).await;
            back.ok_or_else(|| "no shard is owned".to_owned())
        }
        owned => Ok(format!("{owned} of {}", shards.count())),
    };
    let accepting = match shared.rests() {
        true => Err("an operator drained the node".to_owned()),
        false => accepting(hosting),
    };
    let checks = vec![
        check("accepting", accepting),
        check("lease", lease),
        check("shards", owned),
        check("store", store(hosting).await),
    ];
    if checks.iter().all(|check| check.ok) {
        shared.started.store(true, Ordering::Relaxed);
    }
    checks
}

/// Says why a node that owns nothing takes work all the same: its name fell so often that shards
/// are kept from it for a while. It serves requests for entities of the others meanwhile.
async fn held_back(shared: &Shared) -> Option<String> {
    let hosting = shared.client.hosting();
    shared.lease_ttl()?; // Without a lease nothing is kept from it.
    let listed = hosting.store().read("health", |connection| {
        Box::pin(async move { nodes::list(connection).await })
    });
    let listed = request::within(STORE_WITHIN, async {
        let listed = listed.await;
        listed.map_err(|error| Refusal::Unavailable(error.to_string().into()))
    });
    let rows = listed.await.ok()?;
    let own = rows
        .into_iter()
        .find(|row| row.node == *hosting.shards().node())?;
    let pause = candidates::pause(own.falls);
    if pause.is_zero() {
        return None;
    }
    let left = (pause + SHARDS_WITHIN).checked_sub(own.age)?;
    let (left, falls) = (left.as_secs(), own.falls);
    Some(format!(
        "none for up to {left} s: the node fell {falls} times in a row"
    ))
}

fn accepting(hosting: &Hosting) -> Result<String, String> {
    let accepting = hosting.accepting().map(|()| "open".to_owned());
    accepting.map_err(|refusal| refusal.to_string())
}

/// Asks the store for something small.
async fn store(hosting: &Arc<Hosting>) -> Result<String, String> {
    let began = hosting.now();
    let asked = hosting.store().read("health", |connection| {
        Box::pin(async move { actor_core::store::topics::position(connection, "").await })
    });
    let asked = async {
        asked
            .await
            .map_err(|error| Refusal::Unavailable(error.to_string().into()))
    };
    let answer = request::within(STORE_WITHIN, asked).await;
    let took = hosting.now().saturating_duration_since(began);
    answer
        .map(|_| format!("answered in {} ms", took.as_millis()))
        .map_err(|refusal| refusal.to_string())
}

fn check(name: &'static str, outcome: Result<String, String>) -> Check {
    let ok = outcome.is_ok();
    let (Ok(detail) | Err(detail)) = outcome;
    Check { name, ok, detail }
}

fn report(checks: Vec<Check>) -> Response {
    let ok = checks.iter().all(|check| check.ok);
    let (status, word) = match ok {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
    };
    let body = Json(Report {
        status: word,
        checks,
    });
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}
