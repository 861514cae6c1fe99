//! A workflow with what it needs can be hosted, alone and beside others.

use actor_core::{Component, Registry, Result};
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

#[derive(Workflow, Serialize, Deserialize)]
struct Whole;

impl Run for Whole {
    async fn run(&self, _: &mut Saga) -> Result<()> {
        Ok(())
    }
}

#[derive(Workflow, Serialize, Deserialize)]
struct Another;

impl Run for Another {
    async fn run(&self, _: &mut Saga) -> Result<()> {
        Ok(())
    }
}

fn main() {
    let mut registry = Registry::default();

    <(Whole, Another)>::install(&mut registry);
}
