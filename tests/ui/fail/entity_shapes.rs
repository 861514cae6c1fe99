//! Generics and unions are refused.

use actor_core::Entity;

#[derive(Entity, Default)]
struct Generic<T>(T);

#[derive(Entity, Default)]
struct Borrowing<'a>(&'a str);

#[derive(Entity)]
union Either {
    number: u32,
    real: f32,
}

fn main() {}
