//! The load tool: runs named workloads and prints one JSON object a line.
//!
//! `bench list` names the workloads. Each one runs in a process of its own, so that its memory and
//! its database are its own; several workloads of one call take turns, so that they can be
//! compared. Nodes of a cluster are processes, too: `bench node`, which the tool starts and ends.
//! Absolute figures depend on the machine; only ratios of one call mean something.

mod arguments;
mod report;
mod rounds;

mod cluster;
mod companion;
mod load;
mod memory;
mod node;
mod postgres;
mod workload;

use std::process::ExitCode;

use arguments::{Arguments, Wanted};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(companion::WORD) {
        return companion::run();
    }
    let mut arguments = match Arguments::from_command_line() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // Kept to the end: the server lives as long as this handle.
    let server = arguments.throw_away.then(postgres::Server::start);
    let server = match server.transpose() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("bench: {}", error.message);
            return ExitCode::FAILURE;
        }
    };
    arguments.plan.database_url = match &server {
        Some(server) => Some(server.url.clone()),
        None => arguments.plan.database_url,
    };
    let done = match &arguments.wanted {
        Wanted::List => {
            workload::ALL
                .iter()
                .for_each(|workload| println!("{workload}"));
            Ok(())
        }
        Wanted::One(workload) => rounds::in_this_process(workload, &arguments.plan),
        Wanted::Rounds(workloads) => rounds::in_child_processes(workloads, &arguments.plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", error.message);
            ExitCode::FAILURE
        }
    }
}
