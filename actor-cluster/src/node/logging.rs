//! The program's log: what `ACTOR_LOG` lets through, in the form `ACTOR_LOG_FORMAT` names.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::config::{LogFormat, Settings};

/// What holds for targets that the filter does not name: ractor reports every actor's life.
const QUIET: &str = "ractor=warn,ractor_cluster=warn,";

impl Settings {
    /// Starts logging to standard error. Does nothing if the program logs already.
    pub fn start_logging(&self) {
        let filter = EnvFilter::builder().parse_lossy(format!("{QUIET}{}", self.log));
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        // An error means that the program has a subscriber of its own: that one stays.
        let _ = match self.log_format {
            LogFormat::Text => log.try_init(),
            LogFormat::Json => log.json().try_init(),
        };
    }
}
