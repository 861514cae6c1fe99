//! A block that is no plain `impl` is refused and otherwise left alone.

use actor_core::handlers;

struct Cart;
struct Shelf<T>(T);

#[handlers]
impl Clone for Cart {
    fn clone(&self) -> Self {
        Self
    }
}

#[handlers]
impl<T> Shelf<T> {
    pub fn first(&self) -> &T {
        &self.0
    }
}

#[handlers]
impl Shelf<u8> {
    pub fn number(&self) -> u8 {
        self.0
    }
}

#[handlers(durable)]
impl Shelf<u16> {}

#[handlers]
fn free() {}

fn main() {
    free();
    let _ = (Cart.clone(), Shelf(1_u8).number(), Shelf(1_u32).first());
}
