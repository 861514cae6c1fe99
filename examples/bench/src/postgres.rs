//! A PostgreSQL server for one run of the tool: started, and gone with it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use actor_core::{Failure, Result};

/// Starts a server and removes it when its input ends; the tests use it, too.
const SCRIPT: &str = include_str!("../../../tests/src/postgres.sh");

/// A server that keeps what it acknowledges.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its address.
    pub(crate) url: String,
    /// Waits for the end of its input, which is ours.
    script: Child,
}

impl Server {
    /// Starts a server.
    pub(crate) fn start() -> Result<Self> {
        let mut script = Command::new("bash")
            .args(["-c", SCRIPT, "postgres.sh", "durable"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = script.stdout.take().map(BufReader::new);
        let mut url = None;
        for line in said.into_iter().flat_map(BufReader::lines) {
            match line?.split_once(' ') {
                Some(("postgres", address)) => url = Some(address.to_owned()),
                Some(_) => {}
                None => break,
            }
        }
        match url {
            Some(url) => Ok(Self { url, script }),
            None => Err(Failure::fatal("no_server", "PostgreSQL does not start")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // It has removed everything when it ends; an error of it has been printed.
        let _ = self.script.wait();
    }
}

/// Gives a run on PostgreSQL a schema of its own, unless the address names one: whatever an earlier
/// run left would be part of what is measured.
pub(crate) fn with_schema(url: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if !url.starts_with("postgres") || url.contains("schema=") {
        return url.to_owned();
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}schema=bench_{}_{count}", std::process::id())
}
