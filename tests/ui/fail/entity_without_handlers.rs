//! An entity that does nothing is asked for its handlers.

use actor_core::Entity;

#[derive(Entity, Default)]
struct Cart;

fn main() {}
