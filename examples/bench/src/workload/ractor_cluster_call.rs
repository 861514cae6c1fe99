//! The rival of remote calls: one rpc for each frame through bare ractor_cluster.
//!
//! It is a program of its own, outside the workspace (`examples/bench/rival`), so that nobody
//! builds ractor_cluster who does not measure it. It is built on first use, with the same profile.

use std::{path::Path, process::Stdio, time::Duration};

use actor_core::{Failure, Result};
use serde::Deserialize;
use tokio::process::Command;

use crate::{arguments::Plan, report::Line};

/// Where the rival's package is.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rival");

/// What the rival measured.
#[derive(Debug, Deserialize)]
struct Measured {
    ops: u64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    rss_mib: f64,
}

/// Runs `ractor_cluster_call`.
pub(super) async fn run(plan: &Plan) -> Result<Vec<Line>> {
    let program = build().await?;
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    let output = Command::new(program)
        .args([seconds(plan.warm_up), seconds(plan.measured)])
        .args([plan.concurrency.to_string(), plan.entities.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    if !output.status.success() {
        let text = format!("the rival ended with {}", output.status);
        return Err(Failure::fatal("rival_failed", text));
    }
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    let took = Duration::from_secs_f64(measured.seconds);
    let line = Line::measured("ractor_cluster_call", plan, measured.ops, took);
    Ok(vec![
        line.timed(measured.p50_us, measured.p99_us)
            .ended(measured.errors, measured.rss_mib),
    ])
}

/// Builds the rival beside this program and returns where it is.
async fn build() -> Result<std::path::PathBuf> {
    let me = std::env::current_exe()?;
    let target = me.parent().unwrap_or(Path::new(".")).join("bench-rival");
    // Cargo says which one it is when it runs this program.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet"])
        .arg("--manifest-path")
        .arg(Path::new(PACKAGE).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .stdin(Stdio::null())
        .status()
        .await?;
    match built.success() {
        true => Ok(target.join("release/bench-rival")),
        false => Err(Failure::fatal("no_rival", "the rival does not build")),
    }
}
