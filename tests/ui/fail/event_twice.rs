//! A second method for the same event is refused.

use actor_core::{Entity, Event, handlers};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders")]
struct OrderPlaced;

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    #[on]
    fn ordered(&mut self, _: OrderPlaced) {}
    #[on]
    fn again(&mut self, _: OrderPlaced) {}
}

fn main() {}
