//! Generics are refused: one generic type would be many recipes under one wire name.

use actor_workflow::Workflow;

#[derive(Workflow)]
struct Generic<T>(T);

#[derive(Workflow)]
struct Borrowing<'a>(&'a str);

#[derive(Workflow)]
struct Bounded
where
    String: Clone;

fn main() {}
