//! What a request prefers: `Prefer`, `Idempotency-Key`, time-outs. Every reader here takes anything
//! from outside and answers with a value or a rejection that names it.

use std::time::Duration;

use actor_core::client::{CALL_TIMEOUT, CALL_TIMEOUT_MAX};
use axum::http::{HeaderMap, HeaderName};

use crate::rejection::Rejection;

/// The longest idempotency key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What `Prefer` (RFC 7240) asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// Acceptance is enough.
    pub(crate) respond_async: bool,
    /// How long to wait.
    pub(crate) wait: Option<Duration>,
}

/// Reads `Prefer`. Unknown preferences are ignored, as RFC 7240 asks.
pub(crate) fn preferences(headers: &HeaderMap) -> Result<Preferences, Rejection> {
    let mut found = Preferences::default();
    for value in headers.get_all(PREFER) {
        let text = value
            .to_str()
            .map_err(|_| Rejection::new("decode", "the header `Prefer` is not text"))?;
        for preference in text.split(',').map(str::trim) {
            // Parameters after a semicolon belong to the preference; ours have none.
            let preference = preference.split(';').next().unwrap_or_default().trim();
            if preference.eq_ignore_ascii_case("respond-async") {
                found.respond_async = true;
            } else if let Some((name, wait)) = preference.split_once('=')
                && name.trim().eq_ignore_ascii_case("wait")
            {
                found.wait = Some(duration("Prefer: wait", wait.trim().trim_matches('"'))?);
            }
        }
    }
    Ok(found)
}

/// Reads a duration such as `5s`, `250ms`, `2m`, `1h` or a bare number of seconds; at most 5 min.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, Rejection> {
    let refused = || {
        let shown: String = text.chars().take(40).collect();
        let expected = "a number with `ms`, `s`, `m` or `h`, or a bare number of seconds";
        Rejection::new(
            "decode",
            format_args!("`{name}` is {shown:?}: write {expected}"),
        )
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refused()),
    };
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)).min(CALL_TIMEOUT_MAX))
}

/// Returns how long a call may take: `timeout_ms` of the query wins over `Prefer: wait`.
pub(crate) fn timeout(timeout_ms: Option<u64>, preferences: Preferences) -> Duration {
    let asked = timeout_ms.map(Duration::from_millis).or(preferences.wait);
    asked.unwrap_or(CALL_TIMEOUT).min(CALL_TIMEOUT_MAX)
}

/// Reads `Idempotency-Key`; a key in quotes is the same key without them.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    checked_key("Idempotency-Key", inner.unwrap_or(text)).map(|key| Some(key.to_owned()))
}

/// Checks the length of a key.
pub(crate) fn checked_key<'a>(name: &str, key: &'a str) -> Result<&'a str, Rejection> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let text = format!("`{name}` is 1 to {KEY_BYTES_MAX} bytes of text");
        return Err(Rejection::new("decode", text));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Rng;
    use axum::http::HeaderValue;

    use super::*;

    fn prefer(text: &'static str) -> Result<Preferences, Rejection> {
        preferences(&HeaderMap::from_iter([(
            PREFER,
            HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn preferences_are_read_and_unknown_ones_ignored() {
        let wait = |ms| Some(Duration::from_millis(ms));
        let both = Preferences {
            respond_async: true,
            wait: wait(7000),
        };

        assert_eq!(prefer("handling=lenient, Respond-Async, wait=7"), Ok(both));
        assert_eq!(
            prefer("wait=250ms; foo=1").map(|found| found.wait),
            Ok(wait(250))
        );
        assert_eq!(prefer(""), Ok(Preferences::default()));
        assert_eq!(
            prefer("wait=soon").map_err(|error| error.kind()),
            Err("decode")
        );
    }

    #[test]
    fn durations_are_read_with_their_unit_and_cut_at_the_bound() {
        for (text, ms) in [
            ("5", 5000),
            ("5s", 5000),
            ("1m", 60_000),
            ("9h", 300_000),
            ("0ms", 0),
        ] {
            assert_eq!(
                duration("wait", text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "5d",
            "99999999999999999999s",
            "5sé",
        ] {
            let error = duration("wait", text).expect_err(text);
            assert!(error.detail().contains("`wait`"), "{error}");
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic() {
        let rng = Rng::seeded(7);
        for _ in 0..20_000 {
            let length = rng.below(12);
            let alphabet = b"0123456789smh=,;\" wait\xc3\xa9\x00\x7f-";
            let pick = |_| alphabet[rng.below(alphabet.len() as u64) as usize];
            let bytes: Vec<u8> = (0..length).map(pick).collect();
            let text = String::from_utf8_lossy(&bytes);
            drop(duration("wait", &text));
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers =
                    HeaderMap::from_iter([(PREFER, value.clone()), (IDEMPOTENCY_KEY, value)]);
                drop((preferences(&headers), idempotency_key(&headers)));
            }
        }
    }

    #[test]
    fn a_quoted_key_is_the_same_key() {
        let read = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            idempotency_key(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]))
        };

        assert_eq!(read("\"abc\""), Ok(Some("abc".into())));
        assert_eq!(read("abc"), Ok(Some("abc".into())));
        assert!(read("\"\"").is_err());
    }
}
