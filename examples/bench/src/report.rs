//! What is printed: one line for each workload.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{arguments::Plan, load::Load, memory};

/// One line of output. Fields are only ever added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    workload: String,
    backend: String,
    nodes: u32,
    concurrency: u32,
    entities: u32,
    seconds: f64,
    ops: u64,
    ops_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    rss_mib: f64,
    /// What only some workloads know.
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

impl Line {
    /// Describes a load that took turns for a fixed time.
    pub(crate) fn of(workload: &str, backend: &str, plan: &Plan, load: &Load) -> Self {
        let mut line = Self::measured(workload, plan, load.ops, load.took)
            .timed(load.microseconds(0.5), load.microseconds(0.99))
            .ended(load.errors, rounded(memory::resident_mib(), 1));
        line.backend = backend.to_owned();
        if let Some(error) = &load.first_error {
            line = line.with("first_error", error.clone());
        }
        line
    }

    /// Describes what came of so many operations, without a database.
    pub(crate) fn measured(workload: &str, plan: &Plan, ops: u64, took: Duration) -> Self {
        Self {
            workload: workload.to_owned(),
            backend: "none".to_owned(),
            nodes: plan.nodes,
            concurrency: plan.concurrency,
            entities: plan.entities,
            seconds: rounded(took.as_secs_f64(), 3),
            ops,
            ops_per_s: rounded(per_second(ops, took), 1),
            p50_us: 0.0,
            p99_us: 0.0,
            errors: 0,
            rss_mib: 0.0,
            more: BTreeMap::new(),
        }
    }

    /// Says how long operations took, in microseconds.
    #[must_use]
    pub(crate) fn timed(mut self, p50_us: f64, p99_us: f64) -> Self {
        (self.p50_us, self.p99_us) = (p50_us, p99_us);
        self
    }

    /// Says how many failed and how much memory the process had.
    #[must_use]
    pub(crate) fn ended(mut self, errors: u64, rss_mib: f64) -> Self {
        (self.errors, self.rss_mib) = (errors, rss_mib);
        self
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Replaces the number of callers and entities, where the workload has its own.
    #[must_use]
    pub(crate) fn sized(mut self, concurrency: u32, entities: u32) -> Self {
        (self.concurrency, self.entities) = (concurrency, entities);
        self
    }

    /// Says what the line is about, among the lines of one workload.
    pub(crate) fn subject(&self) -> &str {
        self.more
            .get("what")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Returns the figure by which runs are compared.
    pub(crate) fn ops_per_s(&self) -> f64 {
        self.ops_per_s
    }
}

/// Returns how often something happened a second.
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::EPSILON)
}

/// Cuts a figure to as many digits as mean something.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
