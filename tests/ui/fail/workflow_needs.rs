//! What a workflow needs is asked for at its name.

use actor_core::Result;
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

#[derive(Workflow, Serialize, Deserialize)]
struct WithoutRun;

#[derive(Workflow)]
struct WithoutSerialize;

impl Run for WithoutSerialize {
    async fn run(&self, _: &mut Saga) -> Result<()> {
        Ok(())
    }
}

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(output = u32)]
struct OtherOutput;

impl Run for OtherOutput {
    async fn run(&self, _: &mut Saga) -> Result<String> {
        Ok(String::new())
    }
}

fn main() {}
