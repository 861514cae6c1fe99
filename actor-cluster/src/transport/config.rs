//! The bounds of links: each with its unit, default and what is accepted.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::tls::{TlsError, TlsIdentity};
use crate::node::{Secret, Settings};

/// The formats of frames this program speaks, oldest to newest.
pub const FORMATS: RangeInclusive<u16> = 1..=1;

/// What links are given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// What all nodes of a cluster know and nobody else does; at least 16 bytes.
    pub secret: Secret,
    /// Certificates of both sides. Without them both sides still prove who they are when a link
    /// begins, but whoever can alter traffic on the way can read and change what follows.
    pub tls: Option<TlsIdentity>,
    /// How long a connection may take to open. Default 2 s, 10 ms to 1 min.
    pub connect_timeout: Duration,
    /// How long TLS and the proof of identity may take together. Default 5 s, 10 ms to 1 min.
    pub handshake_timeout: Duration,
    /// How many arrivals may be in their handshake at once. At the bound the oldest is dropped: an
    /// honest one takes milliseconds. Default 64, 1 to 4096.
    pub handshakes_max: usize,
    /// After how long without anything to say a link sends an empty frame. Default 1 s, 10 ms to
    /// 1 min.
    pub heartbeat: Duration,
    /// After how long without any byte from the peer a link ends. Default 5 s; at least twice the
    /// heartbeat, at most 5 min.
    pub silence: Duration,
    /// How long the peer may take to accept one frame; then the link ends. Default 10 s, 100 ms to
    /// 5 min.
    pub stall: Duration,
    /// The pause after the first dial that failed; it doubles, +-50 %. Default 50 ms, 1 ms to
    /// 1 min.
    pub backoff_min: Duration,
    /// The longest pause between dials. Default 3 s; at least `backoff_min`, at most 5 min.
    pub backoff_max: Duration,
    /// How long a link that is ended in order waits for what is open. Default 5 s, 0 s to 5 min.
    pub close_timeout: Duration,
    /// The largest frame and therefore the largest envelope, in bytes; a larger one is refused as
    /// too large. Default 4 MiB, 1 KiB to 16 MiB.
    pub frame_bytes_max: usize,
    /// At which size a frame takes no further envelope, in bytes. Default 256 KiB, 1 KiB to
    /// `frame_bytes_max`.
    pub batch_bytes: usize,
    /// How many bytes of requests a peer may have under way here; beyond it, it waits. Default
    /// 16 MiB; at least `frame_bytes_max` + 1 KiB, at most 1 GiB.
    pub window_bytes: usize,
    /// How many bytes of requests may wait for a peer; beyond it, they are refused as overloaded.
    /// Default 16 MiB; at least `frame_bytes_max` + 1 KiB, at most 1 GiB.
    pub queue_bytes_max: usize,
    /// How many bytes of answers may wait for a peer; beyond it, an answer is replaced by
    /// `UnknownOutcome`. Default 64 MiB; at least `frame_bytes_max`, at most 4 GiB.
    pub answer_bytes_max: usize,
    /// The formats of frames to speak. Default: all this program knows.
    pub formats: RangeInclusive<u16>,
}

/// A bound that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfigError(Box<str>);

impl fmt::Display for LinkConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LinkConfigError {}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl LinkConfig {
    /// Returns the defaults, for a cluster with this secret.
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            tls: None,
            connect_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 64,
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(3),
            close_timeout: Duration::from_secs(5),
            frame_bytes_max: 4 * MIB,
            batch_bytes: 256 * KIB,
            window_bytes: 16 * MIB,
            queue_bytes_max: 16 * MIB,
            answer_bytes_max: 64 * MIB,
            formats: FORMATS,
        }
    }

    /// Returns what the settings say, with the defaults for the rest; `None` without a secret: such
    /// a node has no links.
    ///
    /// # Errors
    /// When a certificate or key cannot be used; the error names the setting's file.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, TlsError> {
        let Some(secret) = settings.cluster_secret.clone() else {
            return Ok(None);
        };
        let files = (
            &settings.cluster_tls_ca,
            &settings.cluster_tls_cert,
            &settings.cluster_tls_key,
        );
        let tls = match files {
            (Some(ca), Some(certificate), Some(key)) => {
                Some(TlsIdentity::from_files(ca, certificate, key)?)
            }
            // The settings are checked: all three or none.
            _ => None,
        };
        Ok(Some(Self {
            tls,
            ..Self::new(secret)
        }))
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// When one is not accepted; the error names it and says what is.
    pub fn check(&self) -> Result<(), LinkConfigError> {
        let ms = Duration::from_millis;
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let times = [
            ("connect_timeout", self.connect_timeout, ms(10), minutes(1)),
            (
                "handshake_timeout",
                self.handshake_timeout,
                ms(10),
                minutes(1),
            ),
            ("heartbeat", self.heartbeat, ms(10), minutes(1)),
            ("silence", self.silence, 2 * self.heartbeat, minutes(5)),
            ("stall", self.stall, ms(100), minutes(5)),
            ("backoff_min", self.backoff_min, ms(1), minutes(1)),
            (
                "backoff_max",
                self.backoff_max,
                self.backoff_min,
                minutes(5),
            ),
            ("close_timeout", self.close_timeout, ms(0), minutes(5)),
        ];
        for (name, value, min, max) in times {
            within(name, value, min, max, humantime::format_duration)?;
        }
        let frame = self.frame_bytes_max;
        let sizes = [
            ("handshakes_max", self.handshakes_max, 1, 4096),
            ("frame_bytes_max", frame, KIB, 16 * MIB),
            ("batch_bytes", self.batch_bytes, KIB, frame),
            ("window_bytes", self.window_bytes, frame + KIB, KIB * MIB),
            (
                "queue_bytes_max",
                self.queue_bytes_max,
                frame + KIB,
                KIB * MIB,
            ),
            (
                "answer_bytes_max",
                self.answer_bytes_max,
                frame,
                4 * KIB * MIB,
            ),
        ];
        for (name, value, min, max) in sizes {
            within(name, value, min, max, |size| size)?;
        }
        if self.secret.expose().len() < 16 {
            let text = "the links' secret is too short: accepted is 16 bytes or more";
            return Err(LinkConfigError(text.into()));
        }
        if self.formats.is_empty() {
            return Err(LinkConfigError(
                "no format of frames is left to speak".into(),
            ));
        }
        Ok(())
    }
}

fn within<T: PartialOrd + Copy, D: fmt::Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
    show: impl Fn(T) -> D,
) -> Result<(), LinkConfigError> {
    if value >= min && value <= max {
        return Ok(());
    }
    let (value, min, max) = (show(value), show(min), show(max));
    let text = format!("links' {name} is {value}: accepted is {min} to {max}");
    Err(LinkConfigError(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LinkConfig {
        LinkConfig::new(Secret::new("sixteen bytes it is"))
    }

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn a_node_without_a_secret_has_no_links() {
        let mut settings = Settings::default();
        assert!(matches!(LinkConfig::from_settings(&settings), Ok(None)));
        settings.cluster_secret = Some(Secret::new("sixteen bytes it is"));

        let config = LinkConfig::from_settings(&settings).expect("no files are read");

        assert!(config.is_some_and(|config| config.tls.is_none()));
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named() {
        let settings = Settings {
            cluster_secret: Some(Secret::new("sixteen bytes it is")),
            cluster_tls_ca: Some("nowhere.pem".into()),
            cluster_tls_cert: Some("nowhere.pem".into()),
            cluster_tls_key: Some("nowhere.pem".into()),
            ..Settings::default()
        };

        let error = LinkConfig::from_settings(&settings).expect_err("there is no such file");

        assert!(error.to_string().contains("nowhere.pem"), "{error}");
    }

    #[test]
    fn a_bound_that_is_not_accepted_is_named() {
        type Spoil = fn(&mut LinkConfig);
        let cases: [(&str, Spoil); 5] = [
            ("silence", |it| it.silence = it.heartbeat),
            ("backoff_max", |it| it.backoff_max = Duration::ZERO),
            ("window_bytes", |it| it.window_bytes = it.frame_bytes_max),
            ("batch_bytes", |it| it.batch_bytes = 0),
            ("secret", |it| it.secret = Secret::new("short")),
        ];

        for (name, spoil) in cases {
            let mut config = config();
            spoil(&mut config);

            let text = config.check().expect_err(name).to_string();
            assert!(text.contains(name), "{text}");
        }
    }
}
