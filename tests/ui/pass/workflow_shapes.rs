//! A struct or an enum of any visibility, in any place, can be a workflow.

use actor_core::Result;
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

#[derive(Workflow, Serialize, Deserialize)]
pub enum Public {
    Buy { sku: String },
    Sell(u32),
}

impl Run for Public {
    async fn run(&self, _: &mut Saga) -> Result<()> {
        Ok(())
    }
}

mod shop {
    use super::*;

    #[derive(Workflow, Serialize, Deserialize)]
    pub(crate) struct Near(pub(crate) u8, pub(crate) u8);

    impl Run for Near {
        async fn run(&self, _: &mut Saga) -> Result<()> {
            Ok(())
        }
    }
}

macro_rules! workflow {
    ($name:ident, $output:ty) => {
        #[derive(Workflow, Serialize, Deserialize)]
        #[workflow(output = $output)]
        struct $name;

        impl Run for $name {
            async fn run(&self, _: &mut Saga) -> Result<$output> {
                Ok(Default::default())
            }
        }
    };
}
workflow!(FromMacro, Option<u8>);

fn main() {
    #[derive(Workflow, Serialize, Deserialize)]
    struct Local;

    impl Run for Local {
        async fn run(&self, _: &mut Saga) -> Result<()> {
            Ok(())
        }
    }

    let inputs = (
        Public::Buy { sku: "tea".into() },
        Public::Sell(1),
        shop::Near(1, 2),
    );
    assert_eq!(kind(&inputs.0), kind(&inputs.1));
    assert_eq!(kind(&inputs.2), "near");
    assert_eq!([kind(&FromMacro), kind(&Local)], ["from-macro", "local"]);
}

fn kind<W: Run>(_: &W) -> &'static str {
    W::KIND
}
