//! PostgreSQL: reading its address, opening connections, and what each transaction begins with
//! (architecture D2, D8, D9).
//!
//! Plain connections, not sqlx's pool: in sqlx 0.9.0 a cancelled `begin` gives a connection with an
//! open transaction back to the pool.

mod address;
mod arguments;
mod opening;
mod session;

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _, postgres::PgConnection};

pub(super) use self::{address::Server, arguments::Arguments, session::Session};
use super::{
    StoreConfig,
    error::{StoreError, StoreErrorKind},
    open::Purpose,
};

/// How many prepared statements a connection keeps: each of ours has one or two texts.
const STATEMENTS_KEPT: usize = 256;

/// How long an answer may take beyond the time-out that the server keeps.
const GRACE: Duration = Duration::from_secs(2);

/// The oldest version we know to work, as the server counts.
const VERSION_MIN: u32 = 150_000;

/// What a new connection must tell about its server, as one row of texts.
const ASK: &str = "SELECT current_setting('server_version_num'), \
                   current_setting('synchronous_commit'), pg_is_in_recovery()::text";

impl Server {
    /// Opens one connection and makes sure that its server keeps what it acknowledges.
    pub(super) async fn connect(
        &self,
        config: &StoreConfig,
        purpose: Purpose,
    ) -> Result<Session, StoreError> {
        let opened = self.open(config, purpose).await;
        opened.map_err(|error| {
            let kind = match error.kind() {
                // Whatever it was, nobody has asked for anything yet.
                StoreErrorKind::Incompatible => StoreErrorKind::Incompatible,
                _ => StoreErrorKind::Unavailable,
            };
            let message = format!("cannot open the database {}: {error}", self.name());
            StoreError::new(kind, message).with_source(error)
        })
    }

    async fn open(&self, config: &StoreConfig, purpose: Purpose) -> Result<Session, StoreError> {
        let options = self.options().clone().disable_statement_logging();
        // The start-up packet of a pooler knows few parameters, and this one is for floats.
        let options = options.extra_float_digits(None);
        let options = match self.is_pooled() {
            true => options.statement_cache_capacity(0),
            false => options.statement_cache_capacity(STATEMENTS_KEPT),
        };
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name(&format!("actor-{purpose}")),
        };
        let (connect_timeout, grace) = match purpose {
            Purpose::Lease => {
                let patience = opening::lease_patience(config);
                (
                    config.connect_timeout.min(patience),
                    GRACE.min(patience / 2),
                )
            }
            _ => (config.connect_timeout, GRACE),
        };
        let connecting = async move { options.connect().await };
        let mut connection = session::bounded(connect_timeout, connecting).await?;
        let text = opening::session(self, config, purpose);
        let asking = ask(&mut connection, text);
        check(
            &session::bounded(connect_timeout, asking).await?,
            config.sync,
        )?;
        let limit = opening::statement_timeout(config, purpose) + grace;
        Ok(Session::new(connection, self.is_pooled(), limit))
    }

    /// Returns what a transaction on a connection of this purpose begins with.
    pub(super) fn opening(&self, config: &StoreConfig, purpose: Purpose) -> String {
        opening::transaction(self, config, purpose)
    }
}

/// Sets the connection up and returns what the server says of itself.
async fn ask(connection: &mut PgConnection, text: String) -> Result<[String; 3], sqlx::Error> {
    let rows = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(text)));
    let rows = rows.await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
}

/// Refuses a server that is too old, a standby, or may forget what it acknowledged.
fn check(said: &[String; 3], sync: bool) -> Result<(), StoreError> {
    let [version, synchronous_commit, standby] = said;
    let fail = |kind, message: String| Err(StoreError::new(kind, message));
    if version.parse().unwrap_or(0) < VERSION_MIN {
        let message = format!("it is version {version}; PostgreSQL 15 or newer is needed");
        return fail(StoreErrorKind::Incompatible, message);
    }
    if sync && synchronous_commit == "off" {
        let message = "synchronous_commit is off: a crash of the server would take back commits \
                       that were acknowledged; set it to on for this database or user";
        return fail(StoreErrorKind::Incompatible, message.to_owned());
    }
    if standby == "true" {
        let message = "it is a standby, which cannot be written".to_owned();
        return fail(StoreErrorKind::Unavailable, message);
    }
    Ok(())
}

/// How long an open transaction may wait for its client before the server ends it.
///
/// A frozen node must not hold locks until a takeover gives up.
fn idle_timeout(config: &StoreConfig) -> Duration {
    Duration::from_secs(2).min(config.lease_ttl / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_forget_is_refused() {
        let said = |version: &str, commit: &str, standby: &str| {
            [version, commit, standby].map(str::to_owned)
        };
        let table = [
            (said("150004", "on", "false"), true, None),
            (said("170000", "remote_apply", "false"), true, None),
            (said("150004", "off", "false"), false, None),
            (
                said("150004", "off", "false"),
                true,
                Some("synchronous_commit is off"),
            ),
            (said("140011", "on", "false"), true, Some("version 140011")),
            (said("150004", "on", "true"), true, Some("standby")),
        ];
        for (said, sync, refusal) in table {
            let checked = check(&said, sync).map_err(|error| error.to_string());
            match (checked, refusal) {
                (Ok(()), None) => {}
                (Err(message), Some(refusal)) if message.contains(refusal) => {}
                (checked, _) => panic!("{said:?}: {checked:?}"),
            }
        }
    }
}
