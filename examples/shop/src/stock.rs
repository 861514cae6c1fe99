//! How many there are of one thing, and for whom some of them are held.

use std::collections::BTreeMap;

use actor_core::{Ctx, Entity, Event, handlers};
use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, Sku};

/// The stock of one sku. Its id is the sku.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose)]
pub struct Stock {
    opened: bool,
    level: u64,
    /// What is held for orders that have neither been placed nor cancelled.
    held: BTreeMap<OrderId, u64>,
}

/// There is less than was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfStock {
    /// How many there are.
    pub left: u64,
}

/// A level has changed; shown live on the page.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "stock")]
pub struct StockChanged {
    /// Of what.
    pub sku: Sku,
    /// How many there are now that nobody holds.
    pub level: u64,
}

#[handlers]
impl Stock {
    /// Receives the first delivery; later calls change nothing. Returns the level.
    pub async fn open(&mut self, quantity: u32, ctx: &mut Ctx<Self>) -> u64 {
        if self.opened {
            return self.level;
        }
        self.opened = true;
        self.restock(quantity, ctx).await
    }

    /// Adds `quantity`; returns the level.
    pub async fn restock(&mut self, quantity: u32, ctx: &mut Ctx<Self>) -> u64 {
        self.level = self.level.saturating_add(u64::from(quantity));
        self.announce(ctx).await;
        self.level
    }

    /// Holds `quantity` for an order, on top of what it holds; returns the level.
    pub async fn reserve(
        &mut self,
        order: OrderId,
        quantity: u32,
        ctx: &mut Ctx<Self>,
    ) -> Result<u64, OutOfStock> {
        let quantity = u64::from(quantity);
        self.level = self
            .level
            .checked_sub(quantity)
            .ok_or(OutOfStock { left: self.level })?;
        *self.held.entry(order).or_default() += quantity;
        self.announce(ctx).await;
        Ok(self.level)
    }

    /// Puts back what an order holds; returns the level. Nothing held is nothing to put back.
    pub async fn release(&mut self, order: OrderId, ctx: &mut Ctx<Self>) -> u64 {
        if let Some(quantity) = self.held.remove(&order) {
            self.level = self.level.saturating_add(quantity);
            self.announce(ctx).await;
        }
        self.level
    }

    /// Forgets what an order holds: it has left the shop. Returns how many.
    pub fn ship(&mut self, order: OrderId) -> u64 {
        self.held.remove(&order).unwrap_or_default()
    }

    /// Returns how many there are that nobody holds.
    pub fn level(&self) -> u64 {
        self.level
    }

    /// Tells everyone who watches. In a durable entity the event is part of the message's commit:
    /// nobody hears of a level that was not stored.
    async fn announce(&self, ctx: &mut Ctx<Self>) {
        let changed = StockChanged {
            sku: ctx.id().as_str().into(),
            level: self.level,
        };
        ctx.publish(changed)
            .await
            .expect("a sku and a number have a JSON form");
    }
}

impl std::fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "only {} left", self.left)
    }
}

impl std::error::Error for OutOfStock {}
