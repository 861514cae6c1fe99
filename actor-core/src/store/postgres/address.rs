//! The address of a PostgreSQL database: `postgres://user:password@host:port/database?…`.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::store::{StoreError, StoreErrorKind};

/// How many lanes commit side by side unless the address says otherwise.
const LANES: usize = 4;

/// The most lanes an address may ask for.
const LANES_MAX: usize = 64;

/// Parameters that are sqlx's business. Any other would be a setting that does not hold.
const KNOWN: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Which server, which database and schema in it, and how to speak to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    options: PgConnectOptions,
    schema: Option<Box<str>>,
    pooled: bool,
    lanes: usize,
}

impl Server {
    /// Says whether an address is one of PostgreSQL.
    pub(crate) fn is_meant(url: &str) -> bool {
        url.starts_with("postgres://") || url.starts_with("postgresql://")
    }

    /// Reads an address. Errors do not repeat it: there may be a password in it.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        Self::read(url).map_err(|why| {
            let message = format!("cannot read the address of the database: {why}");
            StoreError::new(StoreErrorKind::Unavailable, message)
        })
    }

    fn read(url: &str) -> Result<Self, String> {
        let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut pooled, mut lanes) = (None, false, LANES);
        let mut rest = Vec::new();
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "schema" => schema = Some(checked(value)?.into()),
                "pooler" if value == "transaction" => pooled = true,
                "pooler" => return Err(format!("pooler={value}: accepted is transaction")),
                "lanes" => lanes = lanes_in(value)?,
                _ if KNOWN.contains(&name) => rest.push(parameter),
                _ => return Err(format!("the parameter {name:?} is not known")),
            }
        }
        if pooled && rest.iter().any(|text| text.starts_with("options=")) {
            return Err("options do not pass a pooler".to_owned());
        }
        let url = format!("{place}?{}", rest.join("&"));
        let options = PgConnectOptions::from_str(&url).map_err(|error| error.to_string())?;
        Ok(Self {
            options,
            schema,
            pooled,
            lanes,
        })
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Returns the schema our tables are in, if the address names one.
    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Says whether consecutive transactions may run on different connections of the server.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Returns how many lanes commit side by side.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Returns what tells the database from others, without secrets.
    pub(crate) fn name(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        let database = self.options.get_database().unwrap_or("(default)");
        match &self.schema {
            Some(schema) => format!("{host}:{port}/{database}, schema {schema}"),
            None => format!("{host}:{port}/{database}"),
        }
    }
}

/// Accepts names that mean the same with and without quotes.
fn checked(schema: &str) -> Result<&str, String> {
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let known = |c: char| letter(c) || c.is_ascii_digit();
    let fits = schema.len() <= 63 && !schema.starts_with("pg_");
    if fits && schema.starts_with(letter) && schema.chars().all(known) {
        return Ok(schema);
    }
    Err(format!(
        "schema={schema}: accepted are up to 63 of a-z, 0-9 and _, not beginning with a digit or \
         pg_"
    ))
}

fn lanes_in(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(lanes) if (1..=LANES_MAX).contains(&lanes) => Ok(lanes),
        _ => Err(format!("lanes={value}: accepted is 1 to {LANES_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_schema_pooler_and_lanes() {
        let plain = Server::parse("postgres://app@db:5433/shop").expect("plain");
        let full = "postgresql://app:secret@db/shop?schema=eu_1&pooler=transaction&lanes=2\
                    &sslmode=disable";
        let full = Server::parse(full).expect("full");

        assert_eq!((plain.schema(), plain.is_pooled()), (None, false));
        assert_eq!(plain.name(), "db:5433/shop");
        assert_eq!((full.schema(), full.is_pooled()), (Some("eu_1"), true));
        assert_eq!(full.lanes(), 2);
        assert_eq!(full.name(), "db:5432/shop, schema eu_1");
    }

    #[test]
    fn what_would_not_hold_is_refused_without_telling_the_password() {
        let table = [
            ("schema=Shop", "schema=Shop"),
            ("schema=a%22b", "schema="),
            ("schema=", "schema="),
            ("schema=1a", "schema=1a"),
            ("schema=pg_catalog", "pg_"),
            ("pooler=session", "pooler=session"),
            ("lanes=0", "lanes=0"),
            ("lanes=many", "1 to 64"),
            ("pool_size=3", "\"pool_size\" is not known"),
            ("pooler=transaction&options=-c%20jit=off", "do not pass"),
        ];
        for (parameters, said) in table {
            let url = format!("postgres://app:secret@db/shop?{parameters}");
            let error = Server::parse(&url).expect_err(parameters).to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
