//! What each setting accepts. An error says what is accepted, in words that follow "accepted is".

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use actor_core::store::StoreConfig;
use tracing_subscriber::EnvFilter;

use super::{LogFormat, Secret};

type Parsed<T> = Result<T, String>;

/// The longest node name, in bytes.
const NODE_NAME_BYTES_MAX: usize = 128;

/// What a database's address may be.
const DATABASES: &str = "sqlite://PATH or postgres://USER@HOST:PORT/DATABASE";

pub(super) fn database_url(text: &str) -> Parsed<String> {
    match StoreConfig::new(text).check() {
        Ok(()) => Ok(text.to_owned()),
        Err(_) if text.starts_with("sqlite:") || !text.starts_with("postgres") => {
            Err(DATABASES.to_owned())
        }
        Err(error) => Err(format!("{DATABASES}; {error}")),
    }
}

pub(super) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    node_name(&name).unwrap_or_else(|_| "node".to_owned())
}

pub(super) fn node_name(text: &str) -> Parsed<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > NODE_NAME_BYTES_MAX || !text.bytes().all(fits) {
        return Err("1 to 128 letters, digits, dots, underscores or dashes".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| "an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

pub(super) fn host_and_port(text: &str) -> Parsed<String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("a host name or address and a port, such as node-1.example:7000".to_owned()),
    }
}

pub(super) fn cluster_secret(text: &str) -> Parsed<Secret> {
    if text.len() < 16 {
        return Err("at least 16 bytes".to_owned());
    }
    Ok(Secret(text.to_owned()))
}

pub(super) fn admin_token(text: &str) -> Parsed<Secret> {
    if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("at least 8 printable ASCII characters without spaces".to_owned());
    }
    Ok(Secret(text.to_owned()))
}

pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if !path.is_file() {
        return Err("the path of a file that exists".to_owned());
    }
    Ok(path)
}

pub(super) fn weight(text: &str) -> Parsed<u32> {
    match text.parse() {
        Ok(weight @ 0..=100) => Ok(weight),
        _ => Err("a whole number, 0 to 100".to_owned()),
    }
}

pub(super) fn shards(text: &str) -> Parsed<u32> {
    match text.parse() {
        Ok(count @ 1..=65_536) => Ok(count),
        _ => Err("a number from 1 to 65536".to_owned()),
    }
}

pub(super) fn lease_ttl(text: &str) -> Parsed<Duration> {
    duration(text, Duration::from_secs(1), Duration::from_secs(300))
        .ok_or_else(|| "a duration from 1s to 5m, such as 10s".to_owned())
}

pub(super) fn drain_timeout(text: &str) -> Parsed<Duration> {
    duration(text, Duration::ZERO, Duration::from_secs(3600))
        .ok_or_else(|| "a duration from 0s to 1h, such as 25s".to_owned())
}

fn duration(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    let duration = humantime::parse_duration(text).ok()?;
    (least..=most).contains(&duration).then_some(duration)
}

pub(super) fn log_filter(text: &str) -> Parsed<String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a tracing filter, such as info or info,actor_core=debug".to_owned()),
    }
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

pub(super) fn http_url(text: &str) -> Parsed<String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("a URL with http:// or https://".to_owned()),
    }
}
