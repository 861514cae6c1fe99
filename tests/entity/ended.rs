//! What is sent by whoever a handler left running.

use actor_core::{Ctx, Entity, handlers};
use actor_tests::{
    Deadline,
    hosting::{MEMORY, client, host_with},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use actor_core::store::TaskExecutor;

use super::kinds::{Account, Gate, SOON};

/// Leaves work to others.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Boss {
    orders: u32,
}

#[handlers]
impl Boss {
    /// Lets somebody else pay, some time; refuses what it is to refuse.
    pub async fn delegate(&mut self, refuse: bool, ctx: &mut Ctx<Self>) -> Result<(), String> {
        self.orders += 1;
        let (gate, account) = (ctx.resource::<Gate>().clone(), ctx.entity::<Account>("a"));
        tokio::spawn(async move {
            gate.pass().await;
            account.deposit(1).cast().await.expect("it is stored");
        });
        match refuse {
            true => Err("no".into()),
            false => Ok(()),
        }
    }
}

/// The handler's commit is over: what comes now is stored by itself, or it would be lost.
#[tokio::test]
async fn what_is_sent_after_the_end_of_a_handler_is_stored_on_its_own() {
    let gate = Gate::default();
    let resource = gate.clone();
    let hosting = host_with::<(Boss, Account)>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(resource);
    });
    let hosting = hosting.await;
    let (boss, account) = (
        client(&hosting).entity::<Boss>("b"),
        client(&hosting).entity::<Account>("a"),
    );
    for (refuse, sum) in [(false, 1), (true, 2)] {
        let delegated = boss.delegate(refuse).timeout(SOON).await;
        assert_eq!(delegated.is_err(), refuse, "{delegated:?}");

        gate.open(1);

        let paid = async || (account.balance().await == Ok(sum)).then_some(());
        let paid = Deadline::seconds(20).poll("the payment", paid).await;
        paid.expect("it is not lost");
    }
}
