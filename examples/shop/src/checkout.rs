//! How a cart becomes an order, or leaves no trace of trying.
//!
//! Each step is journaled once it is done; a checkout whose server was killed goes on where it was.
//! What a step calls carries the step's identity, so a step that ran but was not journaled is not done
//! twice.

use actor_core::{Failure, Result};
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    cart::Cart,
    catalogue,
    ids::{Card, CartId, Cents, OrderId},
    order::Order,
    payment::Payment,
    stock::Stock,
};

/// How often a step is tried when something does not answer: the shop waits rather than gives up. Its
/// own answers, such as a declined card, are fatal and end the checkout at once.
const PATIENCE: u32 = 10_000;

/// Buys what is in a cart. The id of the run is the order's.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = Receipt, version = 1, expose)]
pub struct Checkout {
    /// Whose lines to buy.
    pub cart: CartId,
    /// What to pay with.
    pub card: Card,
}

/// What a shopper gets for the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The order.
    pub order: OrderId,
    /// The payment provider's name for the charge.
    pub payment: String,
    /// What was charged.
    pub total_cents: Cents,
}

/// A charge that was made: what to take back should the order fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Charge {
    payment: String,
    total_cents: Cents,
}

impl Run for Checkout {
    async fn run(&self, saga: &mut Saga) -> Result<Receipt> {
        let order = OrderId::from(saga.id().as_str());
        let lines = saga
            .step("read cart", |step| {
                let cart = step.entity::<Cart>(&self.cart);
                async move { Ok(cart.lines().await?) }
            })
            .attempts(PATIENCE)
            .await?;
        if lines.is_empty() {
            return Err(Failure::fatal("cart_empty", "there is nothing in the cart"));
        }

        saga.step("open order", |step| {
            let (entity, cart, lines) = (step.entity::<Order>(&order), &self.cart, &lines);
            async move { entity.open(cart.clone(), lines.clone()).await }
        })
        .attempts(PATIENCE)
        .compensate({
            let order = order.clone();
            move |(), step| async move { step.entity::<Order>(order).cancel().await }
        })
        .await?;

        for (sku, quantity) in &lines {
            saga.step("reserve stock", |step| {
                let (stock, order) = (step.entity::<Stock>(sku), order.clone());
                async move { reserved(stock.reserve(order, *quantity).await) }
            })
            .attempts(PATIENCE)
            .compensate({
                let (sku, order) = (sku.clone(), order.clone());
                move |_, step| async move { step.entity::<Stock>(sku).release(order).await }
            })
            .await?;
        }

        let total = catalogue::total(&lines);
        let charge = saga
            .step("charge card", |step| async move { charge(step, &self.card, total).await })
            .attempts(PATIENCE)
            .compensate(|charge: Charge, step| async move {
                step.entity::<Payment>(charge.payment).refund().await
            })
            .await?;

        saga.step("place order", |step| {
            let order = step.entity::<Order>(&order);
            async move { order.place().await }
        })
        .attempts(PATIENCE)
        .await?;
        Ok(Receipt { order, payment: charge.payment, total_cents: charge.total_cents })
    }
}
