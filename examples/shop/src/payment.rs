//! A pretend payment provider, kept inside the program.
//!
//! It stands in for a service that is asked over HTTP. What matters is kept: each charge has an
//! idempotency key, and the provider remembers what it did under it, also when the shop is killed
//! between the charge and the note about it. Here each key is a durable entity of its own.

use actor_core::{Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::ids::{Card, Cents};

/// The name of the card that every charge is refused for.
pub const DECLINED: &str = "declined";

/// What the provider did under one idempotency key, which is its id.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
pub struct Payment {
    charged: Option<Cents>,
    refunded: bool,
    /// How often the provider took money: at most once.
    charges: u32,
}

/// The card was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined;

#[handlers]
impl Payment {
    /// Takes the amount from the card, once; a repeat changes nothing. Returns the amount.
    pub fn charge(&mut self, card: Card, amount: Cents) -> Result<Cents, Declined> {
        if card == DECLINED.into() {
            return Err(Declined);
        }
        if self.charged.is_none() {
            self.charges += 1;
        }
        Ok(*self.charged.get_or_insert(amount))
    }

    /// Gives the amount back, once.
    pub fn refund(&mut self) {
        self.refunded = self.charged.is_some();
    }

    /// Returns how often money was taken, less how often it was given back.
    pub fn balance(&self) -> i64 {
        i64::from(self.charges) - i64::from(self.refunded)
    }
}

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the card was declined")
    }
}

impl std::error::Error for Declined {}
