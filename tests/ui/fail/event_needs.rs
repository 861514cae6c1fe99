//! A key without a text, and an event that cannot be sent, are errors where they are written.

use actor_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct CartId;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders", key = cart)]
struct WithoutDisplay {
    cart: CartId,
}

#[derive(Event, Serialize, Deserialize)]
#[event(topic = "orders")]
struct WithoutClone;

fn main() {}
