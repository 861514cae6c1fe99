//! What can go wrong with a call, and with user code.
//!
//! A handler's own error reaches the caller as [`CallError::Rejected`]; everything else here is the
//! infrastructure's (architecture D19). The HTTP and WebSocket surfaces map [`CallError::kind`].

use std::{convert::Infallible, error::Error, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A [`std::result::Result`] whose error is [`Failure`] unless said otherwise.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a call did not return the handler's value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The handler ran and returned this error; nothing it did was kept.
    Rejected(E),
    /// The deadline passed. With `started` the handler may still take effect; a keyed repeat learns
    /// it.
    Timeout {
        /// Whether the handler had begun.
        started: bool,
    },
    /// A bound was reached and the message was not accepted.
    Overloaded {
        /// When a retry may succeed.
        retry_after: Duration,
    },
    /// No node owns the entity's shard now, or this one is stopping, or the store does not answer.
    Unavailable(Box<str>),
    /// No node hosts the kind, or the kind has no such method.
    NotHosted(Box<str>),
    /// The handler panicked or the entity cannot be loaded; nothing was committed.
    Crashed(Box<str>),
    /// Arguments, id or result could not be read or written in the codec asked for.
    Decode(Box<str>),
    /// State, reply or arguments exceed their bound.
    TooLarge(Box<str>),
    /// The key was used before with another method or other arguments.
    KeyReused,
    /// The call leads back to an entity that waits in the same chain of calls.
    Cycle(Box<str>),
    /// The call was sent and its fate is unknown.
    UnknownOutcome(Box<str>),
    /// The caller did not say who it is.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
}

/// A [`CallError`] of the infrastructure only.
pub type Refusal = CallError<Infallible>;

impl<E> CallError<E> {
    /// Returns the stable name of this kind of error, as used on every surface.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Timeout { .. } => "timeout",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::NotHosted(_) => "not_hosted",
            Self::Crashed(_) => "crashed",
            Self::Decode(_) => "decode",
            Self::TooLarge(_) => "too_large",
            Self::KeyReused => "key_reused",
            Self::Cycle(_) => "cycle",
            Self::UnknownOutcome(_) => "unknown_outcome",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }

    /// Converts the handler's error and keeps everything else.
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            Self::Rejected(error) => CallError::Rejected(convert(error)),
            Self::Timeout { started } => CallError::Timeout { started },
            Self::Overloaded { retry_after } => CallError::Overloaded { retry_after },
            Self::Unavailable(why) => CallError::Unavailable(why),
            Self::NotHosted(what) => CallError::NotHosted(what),
            Self::Crashed(why) => CallError::Crashed(why),
            Self::Decode(why) => CallError::Decode(why),
            Self::TooLarge(what) => CallError::TooLarge(what),
            Self::KeyReused => CallError::KeyReused,
            Self::Cycle(path) => CallError::Cycle(path),
            Self::UnknownOutcome(why) => CallError::UnknownOutcome(why),
            Self::Unauthorized => CallError::Unauthorized,
            Self::Forbidden => CallError::Forbidden,
        }
    }

    /// Says whether the same call may succeed when repeated a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Overloaded { .. } | Self::Unavailable(_)
        )
    }
}

impl Refusal {
    /// Widens an infrastructure error to a call with any error type.
    pub fn widen<E>(self) -> CallError<E> {
        self.map(|never| match never {})
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(error) => error.fmt(f),
            Self::Timeout { started: true } => f.write_str("the deadline passed while it ran"),
            Self::Timeout { started: false } => f.write_str("the deadline passed before it ran"),
            Self::Overloaded { retry_after } => {
                write!(f, "overloaded, retry after {} ms", retry_after.as_millis())
            }
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
            Self::NotHosted(what) => write!(f, "not hosted: {what}"),
            Self::Crashed(why) => write!(f, "crashed: {why}"),
            Self::Decode(why) => write!(f, "cannot be decoded: {why}"),
            Self::TooLarge(what) => write!(f, "too large: {what}"),
            Self::KeyReused => f.write_str("the key was used before with other arguments"),
            Self::Cycle(path) => write!(f, "the call leads back to a waiting entity: {path}"),
            Self::UnknownOutcome(why) => write!(f, "the outcome is unknown: {why}"),
            Self::Unauthorized => f.write_str("not authenticated"),
            Self::Forbidden => f.write_str("not allowed"),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.infrastructure().map(|kind| kind as _)
    }
}

impl<E> CallError<E> {
    /// Returns the kind of a failure made of it, unless the handler itself said no.
    fn infrastructure(&self) -> Option<&'static Infrastructure> {
        Some(match self {
            // It is shown as the handler's error itself; what lies behind that did not cross a
            // wire.
            Self::Rejected(_) => return None,
            Self::Timeout { .. } => &Infrastructure("timeout"),
            Self::Overloaded { .. } => &Infrastructure("overloaded"),
            Self::Unavailable(_) => &Infrastructure("unavailable"),
            Self::NotHosted(_) => &Infrastructure("not_hosted"),
            Self::Crashed(_) => &Infrastructure("crashed"),
            Self::Decode(_) => &Infrastructure("decode"),
            Self::TooLarge(_) => &Infrastructure("too_large"),
            Self::KeyReused => &Infrastructure("key_reused"),
            Self::Cycle(_) => &Infrastructure("cycle"),
            Self::UnknownOutcome(_) => &Infrastructure("unknown_outcome"),
            Self::Unauthorized => &Infrastructure("unauthorized"),
            Self::Forbidden => &Infrastructure("forbidden"),
        })
    }
}

/// The last source of a [`CallError`] that is not the handler's: a [`Failure`] made of it, or of an
/// error around it, takes this kind.
#[derive(Debug)]
struct Infrastructure(&'static str);

impl fmt::Display for Infrastructure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Infrastructure {}

/// An error of user code in a form that can be stored and sent: a kind to branch on, a message to
/// read.
///
/// Made by `?` from any error that is `Display`, or by [`Failure::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What a program branches on. Made from another error by `?`, it is the kind of the
    /// [`CallError`] behind it, and `"failed"` if there is none or the handler itself said no.
    pub kind: String,
    /// What a person reads.
    pub message: String,
    /// Whether trying again is pointless.
    #[serde(default)]
    pub fatal: bool,
    /// More for programs.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

impl Failure {
    /// Returns a failure of this kind that retries may cure.
    pub fn new(kind: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            kind: kind.into(),
            message: message.to_string(),
            fatal: false,
            data: serde_json::Value::Null,
        }
    }

    /// Returns a failure that stops all retries.
    pub fn fatal(kind: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            fatal: true,
            ..Self::new(kind, message)
        }
    }

    /// Says whether the infrastructure failed in a way that passes, rather than what was asked: a
    /// call timed out, a bound was reached, nobody owned the shard, an answer was lost.
    pub fn is_transient(&self) -> bool {
        let transient = ["timeout", "overloaded", "unavailable", "unknown_outcome"];
        transient.contains(&&*self.kind)
    }

    /// Attaches data for programs.
    #[must_use]
    pub fn with_data(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// `Failure` is not itself an `Error`, like `anyhow::Error`, so that `?` can take every error.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut kind = "failed";
        let mut source = error.source();
        while let Some(cause) = source {
            match cause.downcast_ref::<Infrastructure>() {
                Some(Infrastructure(name)) => kind = name,
                None => message = format!("{message}: {cause}"),
            }
            source = cause.source();
        }
        Self::new(kind, message)
    }
}

/// A handler's own failure stays what it was; anything else is told as any error is.
impl From<CallError<Failure>> for Failure {
    fn from(error: CallError<Failure>) -> Self {
        match error {
            CallError::Rejected(failure) => failure,
            other => Self::new(
                other.infrastructure().map_or("failed", |kind| kind.0),
                other,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(Refusal);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the report was not made")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_failure_takes_the_kind_of_the_call_behind_it() {
        let timeout = Refusal::Timeout { started: true };

        let plain = Failure::from(timeout.clone());
        let wrapped = Failure::from(Wrapped(timeout));

        assert_eq!(
            plain,
            Failure::new("timeout", "the deadline passed while it ran")
        );
        let same = CallError::<Failure>::Timeout { started: true };
        assert_eq!(Failure::from(same), plain);
        let text = "the report was not made: the deadline passed while it ran";
        assert_eq!(wrapped, Failure::new("timeout", text));
        assert!(wrapped.is_transient());
    }

    #[test]
    fn what_a_handler_says_is_not_the_infrastructures() {
        let said = CallError::Rejected(Wrapped(Refusal::Timeout { started: true }));

        let said = Failure::from(said);

        assert_eq!(said, Failure::new("failed", "the report was not made"));
    }
}
