//! Looks into the database of a simulation.

use actor_cluster::sim::Sim;
use actor_core::store::{
    Sql,
    dead_letters::{self, DeadLetter},
};

/// Returns the number that a query without parameters has.
pub(crate) async fn number(sim: &Sim, sql: &'static str) -> i64 {
    let read = sim.store().read("number", move |connection| {
        Box::pin(async move {
            let row = connection.query_one(&Sql::same(sql), Vec::new()).await?;
            row.expect("the query has a row").int(0)
        })
    });
    read.await.expect("the store answers")
}

/// Returns how many stored messages wait.
pub(crate) async fn waiting(sim: &Sim) -> i64 {
    number(sim, "SELECT COUNT(*) FROM mailbox").await
}

/// Returns the dead letters, the oldest first.
pub(crate) async fn dead(sim: &Sim) -> Vec<DeadLetter> {
    let listed = sim.store().read("dead letters", |connection| {
        Box::pin(async move { dead_letters::list(connection, 0, 100).await })
    });
    listed.await.expect("the store answers")
}
