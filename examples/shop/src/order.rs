//! What became of a checkout, and the announcement of it.
//!
//! An order's own state, the event that everyone sees and the messages to the stocks commit
//! together; so nobody ever sees an order that was not placed, and none is placed without leaving
//! the stock.

use actor_core::{Ctx, Entity, Event, Result, handlers};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{CartId, Cents, Lines, OrderId},
    stock::Stock,
};

/// One order. Only its checkout talks to it; it is not reachable from outside.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub struct Order {
    status: Option<OrderStatus>,
    cart: CartId,
    lines: Lines,
    total_cents: Cents,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Its checkout is running.
    Opened,
    /// Paid for and on its way.
    Placed,
    /// Given up; whatever was done for it is undone.
    Cancelled,
}

/// An order has come a step further; shown live on the page, and heard by the cart it came from.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "orders", key = cart)]
pub struct OrderChanged {
    /// Which.
    pub order: OrderId,
    /// The cart it came from.
    pub cart: CartId,
    /// How far it has come.
    pub status: OrderStatus,
    /// What it is for.
    pub lines: Lines,
    /// What it costs.
    pub total_cents: Cents,
}

#[handlers]
impl Order {
    /// Writes down what is going to be bought.
    pub async fn open(&mut self, cart: CartId, lines: Lines, ctx: &mut Ctx<Self>) -> Result<()> {
        self.total_cents = crate::catalogue::total(&lines);
        (self.cart, self.lines) = (cart, lines);
        self.turn(OrderStatus::Opened, ctx).await
    }

    /// Sends everything out.
    pub async fn place(&mut self, ctx: &mut Ctx<Self>) -> Result<()> {
        for sku in self.lines.keys() {
            let order = ctx.id().as_str().into();
            ctx.entity::<Stock>(sku).ship(order).cast().await?;
        }
        self.turn(OrderStatus::Placed, ctx).await
    }

    /// Gives it up.
    pub async fn cancel(&mut self, ctx: &mut Ctx<Self>) -> Result<()> {
        self.turn(OrderStatus::Cancelled, ctx).await
    }

    /// Returns how far it has come; `None` if it was never opened.
    pub fn status(&self) -> Option<OrderStatus> {
        self.status
    }

    async fn turn(&mut self, status: OrderStatus, ctx: &mut Ctx<Self>) -> Result<()> {
        self.status = Some(status);
        let changed = OrderChanged {
            order: ctx.id().as_str().into(),
            cart: self.cart.clone(),
            status,
            lines: self.lines.clone(),
            total_cents: self.total_cents,
        };
        Ok(ctx.publish(changed).await?)
    }
}
