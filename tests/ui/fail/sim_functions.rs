//! A function that cannot be a simulation says what to write.

use actor_cluster::sim::{self, Sim};

#[sim::test]
fn not_async(_: Sim) {}

#[sim::test]
async fn without_an_argument() {}

#[sim::test]
async fn with_two_arguments(_: Sim, _: u8) {}

#[sim::test]
async fn generic<T>(_: T) {}

#[sim::test]
async fn borrowing<'a>(_: &'a Sim) {}

struct Suite;

impl Suite {
    #[sim::test]
    async fn method(&self) {}
}

#[sim::test]
struct NotAFunction;

fn main() {}
