//! The kinds the tests host.

use actor_core::{Entity, handlers};
use serde::{Deserialize, Serialize};

/// Counts, and keeps the count.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub(crate) struct Counter {
    count: u64,
}

#[handlers]
impl Counter {
    /// Adds and returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }

    /// Returns the sum.
    pub fn count(&self) -> u64 {
        self.count
    }
}
