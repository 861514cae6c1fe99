//! The shop's program: one node, its kinds, and the doors to them.

use actor_cluster::{Node, Settings};
use actor_core::Result;
use actor_gateway::{Gateway, TopicAccess::Listen, serve_or_exit};
use shop::{Kinds, opening, order::OrderChanged, page, stock::StockChanged};

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::from_args_or_exit();
    settings.start_logging();
    let node = Node::builder()
        .settings(settings)
        .host::<Kinds>()
        .start_or_exit()
        .await;
    opening::open(&node.client()).await?;

    let gateway = Gateway::of(&node)
        .topic_of::<StockChanged>(Listen)
        .topic_of::<OrderChanged>(Listen);
    let app = page::router().merge(gateway.router());
    serve_or_exit(node, app).await;
    Ok(())
}
