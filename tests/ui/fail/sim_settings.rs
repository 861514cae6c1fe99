//! A setting that is unknown, repeated, malformed or out of bounds says what to write.

use actor_cluster::sim::{self, Sim};

#[sim::test(nodes = 0)]
async fn no_node(_: Sim) {}

#[sim::test(nodes = 65)]
async fn too_many_nodes(_: Sim) {}

#[sim::test(seeds = 0)]
async fn no_seed(_: Sim) {}

#[sim::test(seeds = "3")]
async fn text(_: Sim) {}

#[sim::test(nodes = 2, nodes = 3)]
async fn repeated(_: Sim) {}

#[sim::test(seed = 7)]
async fn unknown(_: Sim) {}

#[sim::test(host = Cart)]
async fn without_parentheses(_: Sim) {}

#[sim::test(nodes)]
async fn without_a_value(_: Sim) {}

fn main() {}
