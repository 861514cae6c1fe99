//! The settings of a node: each an environment variable and a flag of the same name.
//!
//! Not here: what they are used for. A program that has flags of its own flattens [`Settings`] into
//! them and reads both with [`parse_or_exit`].

mod parse;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory as _, FromArgMatches as _, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// What a node is told from outside.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where the database is: `sqlite://PATH`, created if missing
    ///
    /// Default `sqlite://shop.db`. `sqlite::memory:` keeps everything in memory, for tests.
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` may be followed by `?schema=NAME`,
    /// `pooler=transaction` (PgBouncer), `lanes=1..64` (default 4) and `sslmode=…`.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://shop.db"
    )]
    #[arg(value_parser = parse::database_url)]
    pub database_url: String,

    /// The node's name, unique among live nodes
    ///
    /// Default: the host name. 1 to 128 letters, digits, dots, underscores or dashes.
    #[arg(long, env = "ACTOR_NODE_NAME", value_name = "NAME", default_value_t = parse::host_name())]
    #[arg(value_parser = parse::node_name)]
    pub node_name: String,

    /// Where HTTP, dashboard and metrics answer
    ///
    /// Default `127.0.0.1:8080`; port 0 takes any free one.
    #[arg(
        long,
        env = "ACTOR_HTTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    #[arg(value_parser = parse::address)]
    pub http_listen: SocketAddr,

    /// Where links of other nodes arrive
    ///
    /// Default `127.0.0.1:0`. Used with PostgreSQL only.
    #[arg(
        long,
        env = "ACTOR_CLUSTER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0"
    )]
    #[arg(value_parser = parse::address)]
    pub cluster_listen: SocketAddr,

    /// What other nodes dial, if it is not the listen address
    ///
    /// A host name or address, and a port. Default: the listen address.
    #[arg(long, env = "ACTOR_CLUSTER_ADVERTISE", value_name = "HOST:PORT")]
    #[arg(value_parser = parse::host_and_port)]
    pub cluster_advertise: Option<String>,

    /// The secret that nodes of one cluster share; needed for more than one node
    ///
    /// At least 16 bytes. Default: none.
    #[arg(
        long,
        env = "ACTOR_CLUSTER_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    #[arg(value_parser = parse::cluster_secret)]
    pub cluster_secret: Option<Secret>,

    /// The certificate authority of node links; all three of CA, certificate and key, or none
    #[arg(long, env = "ACTOR_CLUSTER_TLS_CA", value_name = "FILE")]
    #[arg(value_parser = parse::file)]
    pub cluster_tls_ca: Option<PathBuf>,

    /// This node's certificate for node links
    #[arg(long, env = "ACTOR_CLUSTER_TLS_CERT", value_name = "FILE")]
    #[arg(value_parser = parse::file)]
    pub cluster_tls_cert: Option<PathBuf>,

    /// The key of this node's certificate
    #[arg(long, env = "ACTOR_CLUSTER_TLS_KEY", value_name = "FILE")]
    #[arg(value_parser = parse::file)]
    pub cluster_tls_key: Option<PathBuf>,

    /// The bearer token of dashboard and admin API
    ///
    /// At least 8 printable ASCII characters without spaces. Default: none; they then answer on
    /// loopback only.
    #[arg(
        long,
        env = "ACTOR_ADMIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    #[arg(value_parser = parse::admin_token)]
    pub admin_token: Option<Secret>,

    /// How many shards the entities of each group are spread over; fixed when the database is first
    /// used
    ///
    /// Default 512, 1 to 65536. A different value than the database has refuses to start.
    #[arg(
        long,
        env = "ACTOR_SHARDS",
        value_name = "NUMBER",
        default_value = "512"
    )]
    #[arg(value_parser = parse::shards)]
    pub shards: u32,

    /// How large this node's part of the shards is, beside those of the others
    ///
    /// Default 1, 0 to 100. A node of weight 2 gets twice as many as one of weight 1. 0 is for a
    /// node that only sends: it is a member with links and owns nothing. Used with PostgreSQL only.
    #[arg(long, env = "ACTOR_WEIGHT", value_name = "NUMBER", default_value = "1")]
    #[arg(value_parser = parse::weight)]
    pub weight: u32,

    /// How long a silent node keeps its shards
    ///
    /// Default 10s, 1s to 5m.
    #[arg(
        long,
        env = "ACTOR_LEASE_TTL",
        value_name = "DURATION",
        default_value = "10s"
    )]
    #[arg(value_parser = parse::lease_ttl)]
    pub lease_ttl: Duration,

    /// How long a stopping node lets work end
    ///
    /// Default 25s, 0s to 1h.
    #[arg(
        long,
        env = "ACTOR_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "25s"
    )]
    #[arg(value_parser = parse::drain_timeout)]
    pub drain_timeout: Duration,

    /// What is logged: a tracing filter
    ///
    /// Default `info`. ractor's own logs stay at `warn` unless the filter names them.
    #[arg(long, env = "ACTOR_LOG", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = parse::log_filter)]
    pub log: String,

    /// How it is logged: `text`, or `json` for one object a line
    ///
    /// Default `text`.
    #[arg(
        long,
        env = "ACTOR_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    #[arg(value_parser = parse::log_format)]
    pub log_format: LogFormat,

    /// Where traces will be exported to: checked, but nothing is exported yet
    ///
    /// Default: nowhere.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    #[arg(value_parser = parse::http_url)]
    pub otel_exporter_otlp_endpoint: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A setting that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A wrong setting, in one line that names it, its value and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError(Box<str>);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}

/// A program whose only flags are the node's.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

impl Settings {
    /// Reads the program's flags and environment; prints what is wrong and exits with code 2.
    pub fn from_args_or_exit() -> Self {
        parse_or_exit::<Program>().settings
    }

    /// Reads the environment only.
    ///
    /// # Errors
    /// When a variable has a value that is not accepted.
    pub fn from_env() -> Result<Self, SettingError> {
        read::<Program>([""]).map(|program| program.settings)
    }

    /// Reads `arguments` (without the program's name) and the environment.
    ///
    /// # Errors
    /// When a flag or a variable has a value that is not accepted.
    pub fn from_arguments<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SettingError> {
        read::<Program>([""].into_iter().chain(arguments)).map(|program| program.settings)
    }

    fn check(&self) -> Result<(), SettingError> {
        let tls = [
            &self.cluster_tls_ca,
            &self.cluster_tls_cert,
            &self.cluster_tls_key,
        ];
        let set = tls.iter().filter(|file| file.is_some()).count();
        if set == 0 || set == tls.len() {
            return Ok(());
        }
        let text = "ACTOR_CLUSTER_TLS_CA, ACTOR_CLUSTER_TLS_CERT and ACTOR_CLUSTER_TLS_KEY are \
                    only partly set: accepted is all three or none";
        Err(SettingError(text.into()))
    }
}

impl Default for Settings {
    /// Returns the defaults, whatever the environment says.
    fn default() -> Self {
        let command = Program::command().mut_args(|arg| arg.env(Resettable::Reset));
        let matches = command
            .try_get_matches_from([""])
            .expect("the defaults are accepted");
        Program::from_arg_matches(&matches)
            .expect("the defaults are accepted")
            .settings
    }
}

/// Types whose flags include the node's settings.
pub trait HasSettings {
    /// Returns the settings.
    fn settings(&self) -> &Settings;
}

impl HasSettings for Program {
    fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Reads a program's flags and environment; prints what is wrong in one line and exits with code 2.
pub fn parse_or_exit<P: Parser + HasSettings>() -> P {
    match try_parse(std::env::args_os()) {
        Ok(program) => program,
        Err(Trouble::Asked(text)) => {
            text.exit();
        }
        Err(Trouble::Wrong(error)) => exit(&error, 2),
    }
}

/// Prints why the program cannot go on, and ends it.
pub(crate) fn exit(error: &dyn fmt::Display, code: i32) -> ! {
    eprintln!("error: {error}");
    std::process::exit(code);
}

fn read<'a, P: Parser + HasSettings>(
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<P, SettingError> {
    try_parse(arguments).map_err(|trouble| match trouble {
        Trouble::Asked(error) => SettingError(first_line(&error)),
        Trouble::Wrong(error) => error,
    })
}

enum Trouble {
    /// Help or version, which is not an error.
    Asked(clap::Error),
    Wrong(SettingError),
}

fn try_parse<P, T>(arguments: impl IntoIterator<Item = T>) -> Result<P, Trouble>
where
    P: Parser + HasSettings,
    T: Into<std::ffi::OsString> + Clone,
{
    match P::try_parse_from(arguments) {
        Ok(program) => match program.settings().check() {
            Ok(()) => Ok(program),
            Err(error) => Err(Trouble::Wrong(error)),
        },
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Err(Trouble::Asked(error)),
            _ => Err(Trouble::Wrong(SettingError(describe(
                &error,
                &P::command(),
            )))),
        },
    }
}

/// Says in one line which setting is wrong; clap itself takes four and does not name the variable.
fn describe(error: &clap::Error, command: &clap::Command) -> Box<str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let accepted = std::error::Error::source(error);
    let (Some(flag), Some(value), Some(accepted)) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
        accepted,
    ) else {
        return first_line(error);
    };
    let flag = flag.split(' ').next().unwrap_or(flag);
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_long() == flag.strip_prefix("--"));
    let variable = argument.and_then(|argument| argument.get_env());
    let value = match argument {
        Some(argument) if argument.is_hide_env_values_set() => "(secret)".to_owned(),
        _ => format!("{:?}", without_password(value)),
    };
    match variable {
        Some(variable) => {
            let variable = variable.to_string_lossy();
            format!("{variable} ({flag}) is {value}: accepted is {accepted}").into()
        }
        None => format!("{flag} is {value}: accepted is {accepted}").into(),
    }
}

/// Returns an address without the password in it, and any other text as it is.
fn without_password(text: &str) -> String {
    let password = || {
        let (scheme, rest) = text.split_once("://")?;
        let (person, place) = rest.rsplit_once('@')?;
        let (user, _) = person.split_once(':')?;
        Some(format!("{scheme}://{user}:(secret)@{place}"))
    };
    password().unwrap_or_else(|| text.to_owned())
}

fn first_line(error: &clap::Error) -> Box<str> {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).into()
}

#[cfg(test)]
mod tests;
