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
        let mut line = Self {
            workload: workload.to_owned(),
            backend: backend.to_owned(),
            nodes: 1,
            concurrency: plan.concurrency,
            entities: plan.entities,
            seconds: rounded(load.took.as_secs_f64(), 3),
            ops: load.ops,
            ops_per_s: rounded(per_second(load.ops, load.took), 1),
            p50_us: load.microseconds(0.5),
            p99_us: load.microseconds(0.99),
            errors: load.errors,
            rss_mib: rounded(memory::resident_mib(), 1),
            more: BTreeMap::new(),
        };
        if let Some(error) = &load.first_error {
            line = line.with("first_error", error.clone());
        }
        line
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
