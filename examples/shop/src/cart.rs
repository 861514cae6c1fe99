//! A shopper's cart.

use actor_core::{Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Lines, Sku},
    order::{OrderChanged, OrderStatus},
};

/// The most of one thing in a cart.
pub const QUANTITY_MAX: u32 = 1_000;

/// The most different things in a cart.
pub const LINES_MAX: usize = 50;

/// What a shopper wants to buy. Saved after each change, dropped from memory when idle.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose, passivate = "10m")]
pub struct Cart {
    lines: Lines,
}

/// Why something was not put into the cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotAdded {
    /// The quantity is 0, or there would be more than [`QUANTITY_MAX`] of it.
    Quantity,
    /// There are [`LINES_MAX`] different things in the cart.
    Full,
}

#[handlers]
impl Cart {
    /// Adds `quantity` of `sku`; returns the number of distinct lines.
    pub fn add(&mut self, sku: Sku, quantity: u32) -> Result<usize, NotAdded> {
        let before = self.lines.get(&sku).copied().unwrap_or_default();
        let after = before.saturating_add(quantity);
        if quantity == 0 || after > QUANTITY_MAX {
            return Err(NotAdded::Quantity);
        }
        if before == 0 && self.lines.len() == LINES_MAX {
            return Err(NotAdded::Full);
        }
        self.lines.insert(sku, after);
        Ok(self.lines.len())
    }

    /// Takes `quantity` of `sku` out again; returns the number of distinct lines.
    pub fn take(&mut self, sku: Sku, quantity: u32) -> usize {
        let before = self.lines.remove(&sku).unwrap_or_default();
        if before > quantity {
            self.lines.insert(sku, before - quantity);
        }
        self.lines.len()
    }

    /// Takes all of `sku` out; returns the number of distinct lines.
    pub fn remove(&mut self, sku: Sku) -> usize {
        self.take(sku, u32::MAX)
    }

    /// Returns what is in the cart.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Takes out what was bought, and no more: something may have been added meanwhile.
    #[on]
    fn order_changed(&mut self, order: OrderChanged) {
        if order.status == OrderStatus::Placed {
            for (sku, quantity) in order.lines {
                self.take(sku, quantity);
            }
        }
    }
}

impl std::fmt::Display for NotAdded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quantity => write!(f, "a cart holds 1 to {QUANTITY_MAX} of one thing"),
            Self::Full => write!(f, "a cart holds {LINES_MAX} different things"),
        }
    }
}

impl std::error::Error for NotAdded {}
