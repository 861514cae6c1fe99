//! The texts that set a connection up and begin its transactions.
//!
//! A client that sleeps must not hold locks, and a statement must end by itself, since nobody
//! cancels it: both are bounded by the server (architecture D2, D8).

use std::{fmt::Write as _, time::Duration};

use super::{ASK, Server, idle_timeout};
use crate::store::{StoreConfig, open::Purpose};

/// How long the statements of a migration may take: an index of a large table is one of them.
const MIGRATION_MAX: Duration = Duration::from_secs(600);

/// Returns what a new connection runs first; its last row answers [`ASK`].
pub(super) fn session(server: &Server, config: &StoreConfig, purpose: Purpose) -> String {
    if server.is_pooled() {
        // Settings of the session would stay with whichever connection of the pooler this is.
        return format!("BEGIN READ ONLY; {ASK}; COMMIT");
    }
    let mut text = String::new();
    set(&mut text, "SET", server, config, purpose);
    if purpose == Purpose::Read {
        text.push_str("SET default_transaction_read_only = on; ");
    }
    text + ASK
}

/// Returns what each transaction begins with. With [`Purpose::Lease`] its only row is the server's
/// time.
pub(super) fn transaction(server: &Server, config: &StoreConfig, purpose: Purpose) -> String {
    let access = match purpose {
        Purpose::Read => "READ ONLY",
        _ => "READ WRITE",
    };
    // Said in full: a default of the database or the user may be another one.
    let mut text = format!("BEGIN ISOLATION LEVEL READ COMMITTED {access}; ");
    set(&mut text, "SET LOCAL", server, config, purpose);
    if purpose == Purpose::Lease {
        text.push_str("SELECT floor(extract(epoch FROM now()) * 1000)::bigint::text");
    }
    text
}

/// Appends the settings, each as a statement that begins with `how`.
fn set(text: &mut String, how: &str, server: &Server, config: &StoreConfig, purpose: Purpose) {
    let statement = statement_timeout(config, purpose);
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        // Writing into a text does not fail.
        let _ = write!(text, "{how} {name} = {value}; ");
    };
    add("statement_timeout", &milliseconds(statement));
    let idle = milliseconds(idle_timeout(config));
    add("idle_in_transaction_session_timeout", &idle);
    let lock = config.busy_timeout;
    if lock < statement && purpose != Purpose::Migrate {
        add("lock_timeout", &milliseconds(lock));
    }
    if !config.sync {
        add("synchronous_commit", &"off");
    }
    if matches!(purpose, Purpose::Lane(_)) {
        // All statements of a lane find their rows by key. Without statistics of a table that just
        // grew the planner may think otherwise.
        add("enable_seqscan", &"off");
    }
    if purpose == Purpose::Migrate {
        // That a table exists already is no news.
        add("client_min_messages", &"warning");
    }
    // Compiling takes longer than any of our statements.
    add("jit", &"off");
    if let Some(schema) = server.schema() {
        // The name was checked to need no escaping.
        add("search_path", &format_args!("\"{schema}\""));
    }
}

/// Returns how long a statement may take on a connection of this purpose.
pub(super) fn statement_timeout(config: &StoreConfig, purpose: Purpose) -> Duration {
    match purpose {
        Purpose::Migrate => MIGRATION_MAX,
        Purpose::Lease => config.statement_timeout.min(lease_patience(config)),
        _ => config.statement_timeout,
    }
}

/// Returns how long one step of a renewal may take. An answer that is late enough is no answer:
/// better to ask again, on a new connection, while the lease still holds.
pub(super) fn lease_patience(config: &StoreConfig) -> Duration {
    config.lease_ttl / 5
}

/// Returns whole milliseconds for a setting in which 0 would mean "for ever".
fn milliseconds(duration: Duration) -> u128 {
    duration.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, purpose: Purpose) -> String {
        let config = StoreConfig::new(url);
        let server = Server::parse(url).expect("an address");
        transaction(&server, &config, purpose)
    }

    #[test]
    fn a_transaction_bounds_statements_and_idling() {
        assert_eq!(
            opened("postgres://db/shop", Purpose::Write),
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SET LOCAL statement_timeout = 5000; \
             SET LOCAL idle_in_transaction_session_timeout = 2000; SET LOCAL jit = off; "
        );
        let lease = opened("postgres://db/shop?schema=a", Purpose::Lease);
        assert!(lease.contains("statement_timeout = 2000;"), "{lease}");
        assert!(lease.contains("SET LOCAL search_path = \"a\";"), "{lease}");
        assert!(lease.contains("now()"), "{lease}");
    }

    #[test]
    fn a_short_lease_shortens_what_a_frozen_node_may_hold() {
        let mut config = StoreConfig::new("postgres://db/shop");
        config.lease_ttl = Duration::from_secs(2);
        let server = Server::parse(&config.url).expect("an address");

        let text = transaction(&server, &config, Purpose::Lane(0));

        assert!(
            text.contains("idle_in_transaction_session_timeout = 666;"),
            "{text}"
        );
    }

    #[test]
    fn a_pooled_connection_gets_no_settings_of_its_own() {
        let config = StoreConfig::new("postgres://db/shop?pooler=transaction");
        let server = Server::parse(&config.url).expect("an address");

        let text = session(&server, &config, Purpose::Write);

        assert!(!text.contains("SET"), "{text}");
    }
}
