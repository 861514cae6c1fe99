//! An `#[on]` method of another shape is refused.

use actor_core::{Ctx, Entity, Event, handlers};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(topic = "orders")]
struct OrderPlaced;

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    #[on]
    fn shared(&self, _: OrderPlaced) {}
    #[on]
    fn without_self(_: OrderPlaced) {}
    #[on]
    fn without_event(&mut self, _ctx: &mut Ctx<Self>) {}
    #[on]
    fn two_events(&mut self, _: OrderPlaced, _again: OrderPlaced) {}
    #[on]
    fn borrowed(&mut self, _: &OrderPlaced) {}
    #[on]
    fn a_tuple(&mut self, _: (OrderPlaced, OrderPlaced)) {}
    #[on]
    fn answer(&mut self, _: OrderPlaced) -> u32 {
        1
    }
    #[on]
    pub fn public(&mut self, _: OrderPlaced) {}
    #[on(OrderPlaced)]
    fn settings(&mut self, _: OrderPlaced) {}
}

fn main() {}
