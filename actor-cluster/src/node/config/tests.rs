//! Claims about settings.

use super::*;

fn read(arguments: &[&str]) -> Result<Settings, SettingError> {
    Settings::from_arguments(arguments.iter().copied())
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let settings = Settings::default();

    assert_eq!(settings.database_url, "sqlite://shop.db");
    assert_eq!(settings.http_listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.shards, 512);
    assert_eq!(settings.weight, 1);
    assert_eq!(settings.lease_ttl, Duration::from_secs(10));
    assert_eq!(settings.drain_timeout, Duration::from_secs(25));
    assert_eq!(settings.log, "info");
    assert!(!settings.node_name.is_empty());
}

#[test]
fn a_wrong_setting_is_one_line_that_names_it_its_value_and_what_is_accepted() {
    let table = [
        (
            "--database-url",
            "mysql://x",
            "DATABASE_URL",
            "sqlite://PATH",
        ),
        (
            "--database-url",
            "postgres://x/y?pool=3",
            "DATABASE_URL",
            "\"pool\" is not known",
        ),
        ("--node-name", "a b", "ACTOR_NODE_NAME", "letters"),
        (
            "--http-listen",
            "localhost",
            "ACTOR_HTTP_LISTEN",
            "127.0.0.1:8080",
        ),
        (
            "--cluster-listen",
            ":1",
            "ACTOR_CLUSTER_LISTEN",
            "IP address",
        ),
        (
            "--cluster-advertise",
            "a",
            "ACTOR_CLUSTER_ADVERTISE",
            "port",
        ),
        (
            "--cluster-tls-ca",
            "/nowhere/ca.pem",
            "ACTOR_CLUSTER_TLS_CA",
            "exists",
        ),
        ("--shards", "0", "ACTOR_SHARDS", "1 to 65536"),
        ("--weight", "101", "ACTOR_WEIGHT", "0 to 100"),
        ("--lease-ttl", "10", "ACTOR_LEASE_TTL", "1s to 5m"),
        ("--lease-ttl", "6m", "ACTOR_LEASE_TTL", "1s to 5m"),
        ("--drain-timeout", "2h", "ACTOR_DRAIN_TIMEOUT", "0s to 1h"),
        ("--log", "actor_core=loud", "ACTOR_LOG", "tracing filter"),
        ("--log-format", "xml", "ACTOR_LOG_FORMAT", "text or json"),
        (
            "--otel-exporter-otlp-endpoint",
            "x:1",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://",
        ),
    ];
    for (flag, value, variable, accepted) in table {
        let error = read(&[flag, value]).expect_err(flag).to_string();

        assert!(!error.contains('\n'), "{error}");
        for part in [flag, value, variable, accepted] {
            assert!(error.contains(part), "{error}: does not mention {part}");
        }
    }
}

#[test]
fn a_wrong_secret_is_not_shown() {
    for flag in ["--cluster-secret", "--admin-token"] {
        let error = read(&[flag, "hunter"]).expect_err(flag).to_string();

        assert!(!error.contains("hunter"), "{error}");
    }
    let settings = read(&["--admin-token", "correct-horse"]).expect("accepted");

    assert!(!format!("{settings:?}").contains("horse"));
    assert_eq!(
        settings.admin_token.as_ref().map(Secret::expose),
        Some("correct-horse")
    );
}

#[test]
fn an_unknown_flag_is_one_line() {
    let error = read(&["--shard", "3"]).expect_err("unknown").to_string();

    assert!(
        error.contains("--shard") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn half_of_a_tls_set_up_is_refused() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

    let error = read(&["--cluster-tls-ca", file])
        .expect_err("partly set")
        .to_string();

    assert!(error.contains("ACTOR_CLUSTER_TLS_KEY"), "{error}");
}
