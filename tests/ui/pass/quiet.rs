//! The macros warn about nothing that the user did not write.

#![deny(warnings)]
#![deny(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications
)]

use std::fmt;

use actor_core::{Entity, EntityRef, Event, handlers};
use serde::{Deserialize, Serialize};

/// A basket.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(
    durable,
    version = 2,
    passivate = "1m",
    mailbox = 1,
    key_retention = "1h",
    expose
)]
pub struct Cart {
    lines: Vec<String>,
}

#[handlers]
impl Cart {
    /// Adds a line.
    pub fn add(&mut self, line: String) -> Result<(), String> {
        if line.is_empty() {
            return Err(line);
        }
        self.lines.push(line);
        Ok(())
    }

    /// Is gone soon.
    #[deprecated]
    pub fn old(&self) {}

    #[on]
    fn ordered(&mut self, _: OrderPlaced) {
        self.lines.clear();
    }
}

/// Announced once an order is committed.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "orders", key = cart)]
pub struct OrderPlaced {
    /// The basket.
    pub cart: String,
}

#[derive(Default, Entity)]
struct Hidden;

#[handlers]
impl Hidden {
    pub fn only_message(&self, _unused: u8) {}
}

#[derive(Default, Entity)]
struct Idle;

#[handlers]
impl Idle {}

/// What every reference can do.
fn reference<R>(_: R)
where
    R: Clone + fmt::Debug + From<EntityRef<Cart>> + std::ops::Deref<Target = EntityRef<Cart>>,
{
}

fn main() {
    let _ = reference::<CartRef>;
}
