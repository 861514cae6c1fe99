//! The smallest program: one entity, one node, two calls.

use actor_cluster::Node;
use actor_core::{Entity, Result, handlers};

/// A number that grows, and is forgotten when the program ends.
#[derive(Debug, Default, Entity)]
pub struct Counter {
    count: u64,
}

#[handlers]
impl Counter {
    /// Adds `amount`; returns the sum.
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let node = Node::builder()
        .database_url("sqlite::memory:")
        .host::<Counter>()
        .start()
        .await?;
    let clicks = node.client().entity::<Counter>("clicks");
    clicks.add(2).await?;
    println!("clicks: {}", clicks.add(3).await?);
    node.shutdown().await;
    Ok(())
}
