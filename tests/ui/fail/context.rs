//! A context that is not `&mut`, or a second one, is refused.

use actor_core::{Ctx, Entity, handlers};

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    pub fn shared(&self, _ctx: &Ctx<Self>) {}
    pub fn owned(&self, _ctx: Ctx<Self>) {}
    pub fn twice(&self, _ctx: &mut Ctx<Self>, _again: &mut Ctx<Self>) {}
}

fn main() {}
