//! A bank counter in two releases, for tests that replace the one by the other while it is used.
//!
//! `TELLER_RELEASE=2` hosts one more kind, has one more field in a message, in an answer and in a
//! state, and brings one more table. Everything else is the same program: what a release is made of
//! are its kinds and its migrations.

mod new;
mod old;
mod payout;

use std::env;

use actor_cluster::{Node, Settings};
use actor_core::Result;
use actor_gateway::{Gateway, serve_or_exit};

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::from_args_or_exit();
    settings.start_logging();
    let node = Node::builder().settings(settings);
    let node = match env::var("TELLER_RELEASE").as_deref() {
        Ok("2") => node.host::<new::Kinds>().migrations(new::MIGRATIONS),
        _ => node.host::<old::Kinds>(),
    };
    let node = node.start_or_exit().await;
    let gateway = Gateway::of(&node);
    serve_or_exit(node, gateway.router()).await;
    Ok(())
}
