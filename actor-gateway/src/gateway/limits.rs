//! The bounds of the outside world (architecture D20).

use std::time::Duration;

/// The bounds of a gateway. Each says what happens when it is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request body; more is 413 `too_large`. Default 1 MiB.
    pub body_bytes_max: usize,
    /// How long a request body may take to arrive; then 408 `timeout`. Default 10 s.
    pub body_read_timeout: Duration,
    /// Bytes of a WebSocket message from a client; more closes it with 1009. Default 64 KiB.
    pub message_bytes_max: usize,
    /// Sockets, and as many event streams; more are refused as `overloaded`. Default 10 000.
    pub sessions_max: usize,
    /// Topics a socket may listen to; more are refused as `too_large`. Default 256.
    pub subscriptions_max: usize,
    /// Unanswered calls of a socket; more are refused as `overloaded`. Default 128.
    pub calls_max: usize,
    /// Messages of a socket read but not yet looked at; beyond it, reading pauses. Default 32.
    pub inbox_max: usize,
    /// Answers of a socket that wait to be written; beyond it, its calls wait. Default 64.
    pub outbox_max: usize,
    /// How long one write to a socket may take before the client counts as slow. Default 10 s.
    pub write_timeout: Duration,
    /// How often a quiet socket is pinged. Default 30 s.
    pub ping_every: Duration,
    /// How long a socket may be silent, pongs included, before it is closed. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a drained socket may wait for its calls before it is closed. Default 5 s.
    pub drain_patience: Duration,
    /// The time over which drained clients are told to come back. Default 5 s.
    pub reconnect_spread: Duration,
    /// How often a quiet event stream carries a comment. Default 15 s.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            body_read_timeout: Duration::from_secs(10),
            message_bytes_max: 64 * 1024,
            sessions_max: 10_000,
            subscriptions_max: 256,
            calls_max: 128,
            inbox_max: 32,
            outbox_max: 64,
            write_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            drain_patience: Duration::from_secs(5),
            reconnect_spread: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
        }
    }
}
