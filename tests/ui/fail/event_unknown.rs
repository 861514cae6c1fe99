//! A type that is no event is an error at its name.

use actor_core::{Entity, handlers};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct OrderPlaced;

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    #[on]
    fn ordered(&mut self, _: OrderPlaced) {}
}

fn main() {}
