//! An argument that cannot be sent is an error at its type.

use actor_core::{Entity, handlers};

struct Sku;

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    pub fn add(&mut self, _sku: Sku) {}
}

fn main() {}
