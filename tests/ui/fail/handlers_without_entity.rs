//! Handlers of a type that is no entity ask for the derive.

use actor_core::handlers;

#[derive(Default)]
struct Cart;

#[handlers]
impl Cart {}

fn main() {}
