//! How a cart becomes an order, or leaves no trace of trying.
//!
//! Each step is journaled once it is done; a checkout whose server was killed goes on where it was.
//! What a step calls carries the step's identity, so a step that ran but was not journaled is not done
//! twice.

use std::error::Error;

use actor_core::{CallError, Failure, Result};
use actor_workflow::{Run, Saga, Step, Workflow};
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
const PATIENCE: u32 = 1_000;

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
        let order = &OrderId::from(saga.id().as_str());
        let lines = &saga
            .step("read cart", |step| async move {
                step.entity::<Cart>(&self.cart).lines().await
            })
            .attempts(PATIENCE)
            .await?;
        if lines.is_empty() {
            return Err(Failure::fatal("cart_empty", "there is nothing in the cart"));
        }

        saga.step("open order", |step| async move {
            step.entity::<Order>(order)
                .open(self.cart.clone(), lines.clone())
                .await
        })
        .attempts(PATIENCE)
        .compensate(|(), step| async move { step.entity::<Order>(order).cancel().await })
        .await?;

        for (sku, quantity) in lines {
            saga.step("reserve stock", |step| async move {
                let level = step
                    .entity::<Stock>(sku)
                    .reserve(order.clone(), *quantity)
                    .await;
                level.map_err(|error| final_if_rejected(error, "out_of_stock"))
            })
            .attempts(PATIENCE)
            .compensate(
                |_, step| async move { step.entity::<Stock>(sku).release(order.clone()).await },
            )
            .await?;
        }

        let total = catalogue::total(lines);
        let charge = saga
            .step("charge card", |step| self.pay(step, total))
            .attempts(PATIENCE)
            .compensate(|charge, step| async move {
                step.entity::<Payment>(charge.payment).refund().await
            })
            .await?;

        saga.step("place order", |step| async move {
            step.entity::<Order>(order).place().await
        })
        .attempts(PATIENCE)
        .await?;
        Ok(Receipt {
            order: order.clone(),
            payment: charge.payment,
            total_cents: charge.total_cents,
        })
    }
}

impl Checkout {
    /// Charges the card under the step's key: asked again, the provider answers as before.
    async fn pay(&self, step: Step, total: Cents) -> Result<Charge> {
        let payment = step.key().to_string();
        let charged = step
            .entity::<Payment>(&payment)
            .charge(self.card.clone(), total)
            .await;
        let total_cents = charged.map_err(|error| final_if_rejected(error, "card_declined"))?;
        Ok(Charge {
            payment,
            total_cents,
        })
    }
}

/// Turns what a call did not return into what a step does about it: the entity's own no is final and
/// gets a name, anything else is tried again.
fn final_if_rejected<E: Error + 'static>(error: CallError<E>, kind: &str) -> Failure {
    match error {
        CallError::Rejected(rejection) => Failure::fatal(kind, rejection),
        other => other.into(),
    }
}
