//! Every setting of a workflow reaches its trait; what is not set keeps its default.

use actor_core::Result;
use actor_workflow::{Run, Saga, Workflow};
use serde::{Deserialize, Serialize};

#[derive(Workflow, Serialize, Deserialize)]
struct PlaceOrder;

impl Run for PlaceOrder {
    async fn run(&self, _: &mut Saga) -> Result<()> {
        Ok(())
    }
}

#[derive(Workflow, Serialize, Deserialize)]
#[workflow(output = Vec<Option<u32>>, version = 3)]
#[workflow(expose, group = "media", kind = "checkout")]
struct Checkout {
    lines: Vec<u32>,
}

impl Run for Checkout {
    async fn run(&self, saga: &mut Saga) -> Result<Vec<Option<u32>>> {
        let step = saga.step("count", |_| async {
            Ok::<_, actor_core::Failure>(self.lines.len() as u32)
        });
        Ok(vec![Some(step.attempts(3).await?)])
    }
}

fn output_of<W: Workflow>() -> &'static str {
    std::any::type_name::<W::Output>()
}

fn main() {
    assert_eq!(PlaceOrder::KIND, "place-order");
    assert_eq!(PlaceOrder::VERSION, 1);
    assert_eq!([PlaceOrder::EXPOSED, Checkout::EXPOSED], [false, true]);
    assert_eq!([PlaceOrder::GROUP, Checkout::GROUP], ["default", "media"]);
    assert_eq!(output_of::<PlaceOrder>(), "()");

    assert_eq!(Checkout::KIND, "checkout");
    assert_eq!(Checkout::VERSION, 3);
    assert_eq!(
        output_of::<Checkout>(),
        std::any::type_name::<Vec<Option<u32>>>()
    );
}
