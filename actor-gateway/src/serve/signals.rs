//! The signals that stop a program: the first in order, a person's second one at once. A repeated
//! SIGTERM changes nothing: orchestrators send it more than once, and a drain must not be cut
//! short.

use tokio::select;

/// What the process ends with when it is told twice.
const IMPATIENT: i32 = 130;

/// Waits for the first signal and returns its name; from then on Ctrl-C ends the process at once.
pub(super) async fn first() -> &'static str {
    let name = one().await;
    // This task ends with the process: it has nothing to give back.
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::warn!("stopping at once");
            std::process::exit(IMPATIENT);
        }
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
