//! A node in a process of its own: `bench node`, a child of the tool that other nodes' calls reach.
//!
//! It says `up` when it serves, drains when it is told to, and ends with its input, so that none
//! outlives the tool. Not here: starting and killing them (`cluster`).

use std::{io::BufRead as _, process::ExitCode};

use actor_cluster::{Node, NodeBuilder, Settings};
use actor_core::{Failure, Result};
use clap::Parser;
use tokio::sync::mpsc;

use crate::workload;

/// The first word of a companion's command line.
pub(crate) const WORD: &str = "node";

/// What a companion says when it serves.
pub(crate) const UP: &str = "up";

/// What it is told to leave in order.
pub(crate) const DRAIN: &str = "drain";

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
    /// The most activations in memory.
    #[arg(long)]
    residents: usize,
}

/// Runs a node until it is told to leave, loses its lease or its input ends.
pub(crate) fn run() -> ExitCode {
    let words = std::env::args().take(1).chain(std::env::args().skip(2));
    let line = CommandLine::parse_from(words);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let served = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve(line)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", error.message);
            ExitCode::FAILURE
        }
    }
}

/// Gives a node every kind that a workload of several nodes calls.
pub(crate) fn with_kinds(node: NodeBuilder) -> NodeBuilder {
    workload::host_all(node)
}

async fn serve(line: CommandLine) -> Result<()> {
    let node = with_kinds(Node::builder().settings(line.settings))
        .residents_max(line.residents)
        .start()
        .await?;
    println!("{UP}");
    let mut orders = orders();
    // Both arms only wait.
    let order = tokio::select! {
        biased;
        order = orders.recv() => order,
        phase = node.ended() => {
            return Err(Failure::fatal("node_ended", format!("{} ended: {phase:?}", node.name())));
        }
    };
    if order.as_deref() == Some(DRAIN) {
        let unfinished = node.shutdown().await.unfinished;
        if unfinished > 0 {
            let text = format!("{unfinished} messages were cut off");
            return Err(Failure::fatal("unfinished", text));
        }
    }
    Ok(())
}

/// Reads orders from standard input; the channel closes when it ends.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    // A blocking read has a thread of its own; it ends with the input or the program.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}
