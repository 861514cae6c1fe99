//! A setting of an event that is missing, unknown or malformed says what to write.

use actor_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
struct NoTopic;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "Orders")]
struct WrongTopic;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders", key = basket)]
struct WrongKey {
    cart: u32,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders", name = "Order Placed")]
struct WrongName;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders", retention = "1h")]
struct Unknown;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders")]
struct Generic<T>(T);

fn main() {}
