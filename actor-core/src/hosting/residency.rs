//! How many activations a node keeps in memory, and which one leaves when it is full.

use std::sync::{Arc, atomic::Ordering};

use super::{Hosted, Hosting, Role};
use crate::{clock::Instant, error::Refusal, id::EntityId};

/// Activations in memory unless the configuration says otherwise.
pub(super) const RESIDENTS_MAX: usize = 100_000;

/// What a caller is told to wait when nothing is idle.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// One activation in memory; it counts until this is dropped.
#[derive(Debug)]
pub struct Resident(Arc<Hosting>);

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.residents.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hosting {
    /// Says whether the node has as many activations as it may.
    pub(super) fn is_full(&self) -> bool {
        self.residents.load(Ordering::Relaxed) >= self.residents_max
    }

    /// Makes room for one more activation and counts it.
    ///
    /// # Errors
    /// `Overloaded` if there are too many and none is idle.
    pub fn resident(self: &Arc<Self>) -> Result<Resident, Refusal> {
        self.make_room()?;
        self.residents.fetch_add(1, Ordering::Relaxed);
        Ok(Resident(self.clone()))
    }

    /// Makes room for one more activation: at the cap, idle ones leave, least recently used first,
    /// durable kinds before volatile ones, a hundredth of the cap at a time so that the search is
    /// paid for rarely.
    ///
    /// # Errors
    /// `Overloaded` if none is idle.
    pub fn make_room(&self) -> Result<(), Refusal> {
        if !self.is_full() {
            return Ok(());
        }
        let mut idle: Vec<(bool, Instant, Arc<dyn Hosted>, EntityId)> = Vec::new();
        for hosted in self.kinds.values() {
            let volatile = hosted.role() == Role::Entity;
            for target in hosted.targets() {
                if let Some(since) = target.idle_since {
                    idle.push((volatile, since, hosted.clone(), target.id));
                }
            }
        }
        idle.sort_by_key(|(volatile, since, hosted, _)| (*volatile, *since, hosted.kind()));
        let wanted = (self.residents_max / 100).max(1);
        let mut left = 0;
        for (_, _, hosted, id) in idle {
            left += usize::from(hosted.evict(&id));
            if left >= wanted {
                break;
            }
        }
        if left == 0 {
            return Err(Refusal::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        Ok(())
    }
}
