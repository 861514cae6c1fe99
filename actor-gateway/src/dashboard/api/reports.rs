//! What all nodes say they are doing: moves in progress, what still runs, what happened.
//!
//! Only a node itself knows what runs in it, so each is asked over its link; one that does not
//! answer at once is shown without it.

use std::{cmp::Reverse, collections::BTreeSet};

use actor_cluster::{node::operations::Report, transport::PeerId};
use actor_core::{codec::Codec, store::nodes::NodeRow};
use serde_json::{Value, json};

use crate::gateway::Shared;

/// The most events of all nodes that are shown.
const EVENTS_MAX: usize = 128;

/// What each life of a node said, as JSON: a node of another release may say more, or less.
pub(super) struct Reports(Vec<(PeerId, Value)>);

/// Asks all nodes.
pub(super) async fn of_all(shared: &Shared) -> Reports {
    let Some(node) = &shared.node else {
        // Without the node itself: what its hosting knows.
        let shards = shared.client.hosting().shards();
        let id = PeerId::new(shards.node().as_str(), shards.incarnation().0);
        let own = json!(Report::of(shared.client.hosting()));
        return Reports(vec![(id, own)]);
    };
    let said = node.reports().await.into_iter();
    let read = said.filter_map(|said| {
        let report = Codec::Json.decode(&said.report?).ok()?;
        Some((said.of, report))
    });
    Reports(read.collect())
}

impl Reports {
    /// Returns the shards that are on their way out of some node.
    pub(super) fn leaving(&self) -> BTreeSet<u32> {
        let all = self.0.iter().flat_map(|(_, report)| list(report, "moving"));
        let numbers = all.filter_map(Value::as_u64);
        numbers.filter_map(|shard| shard.try_into().ok()).collect()
    }

    /// Returns what the life of a row is doing; null if it did not say.
    pub(super) fn progress(&self, row: &NodeRow) -> Value {
        let life = (&row.node, row.incarnation);
        let said = |(of, _): &&(PeerId, Value)| (&of.node, of.incarnation) == life;
        let Some((_, report)) = self.0.iter().find(said) else {
            return Value::Null;
        };
        json!({"moving": list(report, "moving").len(), "running": report["running"]})
    }

    /// Returns what happened at all nodes lately, the newest first, each with the node that saw it.
    pub(super) fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for (of, report) in &self.0 {
            for change in list(report, "changes") {
                let mut event = change.clone();
                event["at"] = of.node.as_str().into();
                events.push(event);
            }
        }
        events.sort_by_key(|event| Reverse(event["at_ms"].as_i64()));
        events.truncate(EVENTS_MAX);
        events
    }
}

fn list<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().map_or(&[], Vec::as_slice)
}
