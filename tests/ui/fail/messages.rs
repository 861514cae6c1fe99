//! A public method that cannot be a message is refused; the others are not affected.

use actor_core::{Entity, handlers};

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    pub fn take(self) {}
    pub fn boxed(self: Box<Self>) {}
    pub fn generic<T>(&self, _value: T) {}
    pub fn lifetime<'a>(&'a self) {}
    pub const fn constant(&self) {}
    pub unsafe fn dangerous(&self) {}
    pub extern "C" fn foreign(&self) {}
    #[cfg(unix)]
    pub fn sometimes(&self) {}
    #[idempotent(twice)]
    pub fn often(&self) {}
    pub fn good(&self) {}
}

fn main() {
    let _ = |cart: CartRef| drop(cart.good());
}
