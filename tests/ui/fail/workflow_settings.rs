//! A setting that is unknown, repeated, malformed or out of bounds says what to write.

use actor_core::Result;
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

macro_rules! runs {
    ($($name:ident)*) => {
        $(impl Run for $name {
            async fn run(&self, _: &mut Saga) -> Result<()> {
                Ok(())
            }
        })*
    };
}
runs!(Unknown Repeated Flag Version Text NoType NoName WrongName WrongGroup);

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(retries = 3)]
struct Unknown;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(version = 1, version = 2)]
struct Repeated;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(expose = true)]
struct Flag;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(version = 0)]
struct Version;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(version = "2")]
struct Text;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(output)]
struct NoType;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(kind = checkout)]
struct NoName;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(kind = "Check Out")]
struct WrongName;

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(group = "2nd")]
struct WrongGroup;

fn main() {}
