//! A throw-away PostgreSQL for the tests of this process, and a PgBouncer before it.
//!
//! Started when first asked for, gone when the process is: `postgres.sh` waits for the end of its
//! input. A server that is running already is used only if both variables name it:
//! `ACTOR_TEST_POSTGRES_URL` and `ACTOR_TEST_POOLER_URL`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The script that starts and removes them.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres.sh");

/// A server, and a pooler in transaction mode before it.
#[derive(Debug)]
pub struct Postgres {
    /// The server's address, without parameters.
    pub url: String,
    /// The pooler's address, without parameters.
    pub pooler_url: String,
    /// It waits for the end of its input, which we hold.
    _script: Option<Child>,
}

impl Postgres {
    /// Returns the server of this process, starting it if need be. Blocks meanwhile.
    ///
    /// # Panics
    /// When it does not start: PostgreSQL or PgBouncer is missing, say. No test is skipped.
    pub fn get() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(|| match given() {
            Some(server) => server,
            None => start(),
        })
    }

    /// Returns a schema name that no other test of this process has.
    pub fn new_schema() -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("t{}_{count}", std::process::id())
    }

    /// Returns the address of this server by way of another port, such as a proxy's.
    ///
    /// # Panics
    /// When the server's address names no port.
    pub fn url_by(&self, port: u16) -> String {
        let (_, own) = self.address();
        self.url
            .replacen(&format!(":{own}/"), &format!(":{port}/"), 1)
    }

    /// Returns host and port of the server.
    ///
    /// # Panics
    /// When the server's address names no port.
    pub fn address(&self) -> (&str, u16) {
        let (_, place) = self.url.rsplit_once('@').expect("a user");
        let (place, _) = place.split_once('/').expect("a database");
        let (host, port) = place.split_once(':').expect("a port");
        (host, port.parse().expect("a port"))
    }
}

fn given() -> Option<Postgres> {
    Some(Postgres {
        url: env::var("ACTOR_TEST_POSTGRES_URL").ok()?,
        pooler_url: env::var("ACTOR_TEST_POOLER_URL").ok()?,
        _script: None,
    })
}

fn start() -> Postgres {
    let mut child = Command::new(Path::new(SCRIPT))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script of the tests' server starts");
    let output = BufReader::new(child.stdout.take().expect("its output is ours"));
    let (mut url, mut pooler_url) = (String::new(), String::new());
    for line in output.lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("postgres", address)) => url = address.to_owned(),
            Some(("pooler", address)) => pooler_url = address.to_owned(),
            _ => break,
        }
    }
    assert!(!url.is_empty(), "PostgreSQL does not start; see above");
    assert!(
        !pooler_url.is_empty(),
        "PgBouncer does not start, or is not installed"
    );
    Postgres {
        url,
        pooler_url,
        _script: Some(child),
    }
}
