//! The signals that stop a program: the first in order, the second at once.

use tokio::select;

/// What the process ends with when it is told twice.
const IMPATIENT: i32 = 130;

/// Waits for the first signal and returns its name; from then on another one ends the process.
pub(super) async fn first() -> &'static str {
    let name = one().await;
    // This task ends with the process: it has nothing to give back.
    tokio::spawn(async {
        let name = one().await;
        tracing::warn!(signal = name, "stopping at once");
        std::process::exit(IMPATIENT);
    });
    name
}

#[cfg(unix)]
async fn one() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        tracing::warn!("signals cannot be caught: the process ends at once when it gets one");
        return std::future::pending().await;
    };
    select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(not(unix))]
async fn one() -> &'static str {
    select! {
        biased;
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
    }
}
