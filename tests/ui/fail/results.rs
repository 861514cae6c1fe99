//! A result that borrows is refused; one that cannot be sent is an error at its type.

use actor_core::{Entity, handlers};

struct Money;

#[derive(Entity, Default)]
struct Cart {
    name: String,
}

#[handlers]
impl Cart {
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.name.clone())
    }
    pub fn total(&self) -> Money {
        Money
    }
}

fn main() {}
