//! How an error looks outside: RFC 9457 `application/problem+json`, one status per kind.
//!
//! Not here: what goes wrong (`actor_core::error`) and how a socket says it (`session/answer.rs`).

use std::{fmt, time::Duration};

use actor_core::CallError;
use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use problem_details::{JsonProblemDetails, ProblemDetails};
use serde::Serialize;
use serde_json::Value;

/// An answer that says what went wrong.
///
/// Handlers of a program return it too: `?` turns every [`CallError`] into one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    status: StatusCode,
    detail: String,
    facts: Facts,
}

/// What programs read beside the fields of RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Facts {
    pub(crate) kind: &'static str,
    /// The handler's own error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Value>,
    /// Of a time-out: whether the handler had begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

/// One kind of error: its name, status and title. The one list of kinds that leave the system.
struct Row(&'static str, StatusCode, &'static str);

const KINDS: [Row; 13] = [
    Row(
        "rejected",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The handler refused",
    ),
    Row(
        "timeout",
        StatusCode::GATEWAY_TIMEOUT,
        "The deadline passed",
    ),
    Row("overloaded", StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
    Row(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
    ),
    Row(
        "not_hosted",
        StatusCode::NOT_FOUND,
        "There is no such thing here",
    ),
    Row(
        "crashed",
        StatusCode::INTERNAL_SERVER_ERROR,
        "The handler crashed",
    ),
    Row("decode", StatusCode::BAD_REQUEST, "Not readable"),
    Row("too_large", StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
    Row(
        "key_reused",
        StatusCode::CONFLICT,
        "The key was used before",
    ),
    Row(
        "cycle",
        StatusCode::CONFLICT,
        "The call leads back to a waiting entity",
    ),
    Row(
        "unknown_outcome",
        StatusCode::BAD_GATEWAY,
        "The outcome is unknown",
    ),
    Row(
        "unauthorized",
        StatusCode::UNAUTHORIZED,
        "Not authenticated",
    ),
    Row("forbidden", StatusCode::FORBIDDEN, "Not allowed"),
];

/// Returns the place of a kind in the list; the place numbers JSON-RPC's error codes.
pub(crate) fn place_of(kind: &str) -> usize {
    let found = KINDS.iter().position(|row| row.0 == kind);
    found.unwrap_or(5) // A kind that is not in the list is our mistake: `crashed`.
}

impl Rejection {
    /// Returns a rejection of one of the documented kinds; another name becomes `crashed`.
    pub fn new(kind: &str, detail: impl fmt::Display) -> Self {
        let Row(kind, status, _) = KINDS[place_of(kind)];
        Self {
            status,
            detail: detail.to_string(),
            facts: Facts {
                kind,
                error: None,
                started: None,
                retry_after_ms: None,
            },
        }
    }

    /// Returns the handler's own error.
    pub fn rejected(error: Value) -> Self {
        let detail = match &error {
            Value::String(text) => text.clone(),
            Value::Object(fields) => match fields.get("message") {
                Some(Value::String(text)) => text.clone(),
                _ => error.to_string(),
            },
            other => other.to_string(),
        };
        let mut rejection = Self::new("rejected", detail);
        rejection.facts.error = Some(error);
        rejection
    }

    /// Attaches the handler's own error in a form for programs.
    #[must_use]
    pub fn with_error(mut self, error: &impl Serialize) -> Self {
        self.facts.error = serde_json::to_value(error).ok();
        self
    }

    /// Replaces the status by a more exact one; the kind stays.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.facts.retry_after_ms = Some(ms);
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> &'static str {
        self.facts.kind
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the text for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl<E: fmt::Display> From<CallError<E>> for Rejection {
    fn from(error: CallError<E>) -> Self {
        let mut rejection = Self::new(error.kind(), &error);
        match error {
            CallError::Overloaded { retry_after } => rejection = rejection.retry_after(retry_after),
            CallError::Timeout { started } => rejection.facts.started = Some(started),
            _ => {}
        }
        rejection
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.facts.kind, self.detail)
    }
}

impl std::error::Error for Rejection {}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let Row(kind, _, title) = KINDS[place_of(self.facts.kind)];
        let kind_page = Uri::try_from(format!("/problems/{kind}"));
        let retry_after = self.facts.retry_after_ms;
        let problem = ProblemDetails::from_status_code(self.status)
            .with_type(kind_page.unwrap_or_default())
            .with_title(title)
            .with_detail(self.detail)
            .with_extensions(self.facts);
        let mut response = JsonProblemDetails::from(problem).into_response();
        if let Some(ms) = retry_after {
            // The header counts whole seconds: at least one, never early.
            let seconds = HeaderValue::from(ms.div_ceil(1000).max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use actor_core::Refusal;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_documented_status() {
        let after = Duration::from_millis(1200);
        let text = || "x".into();
        let table: [(CallError<&str>, u16); 13] = [
            (CallError::Rejected("x"), 422),
            (CallError::Timeout { started: true }, 504),
            (CallError::Overloaded { retry_after: after }, 429),
            (CallError::Unavailable(text()), 503),
            (CallError::NotHosted(text()), 404),
            (CallError::Crashed(text()), 500),
            (CallError::Decode(text()), 400),
            (CallError::TooLarge(text()), 413),
            (CallError::KeyReused, 409),
            (CallError::Cycle(text()), 409),
            (CallError::UnknownOutcome(text()), 502),
            (CallError::Unauthorized, 401),
            (CallError::Forbidden, 403),
        ];
        for (error, status) in table {
            let kind = error.kind();
            let rejection = Rejection::from(error);

            assert_eq!(rejection.kind(), kind);
            assert_eq!(rejection.status().as_u16(), status, "{kind}");
            assert_eq!(
                rejection.into_response().status().as_u16(),
                status,
                "{kind}"
            );
        }
    }

    #[test]
    fn a_retry_is_never_announced_too_early() {
        let after = Duration::from_millis(1200);
        let refusal = Refusal::Overloaded { retry_after: after };

        let response = Rejection::from(refusal).into_response();

        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }

    #[test]
    fn a_handlers_error_shows_its_message() {
        let error =
            serde_json::json!({"kind": "card_declined", "message": "the card was declined"});

        assert_eq!(Rejection::rejected(error).detail(), "the card was declined");
        assert_eq!(Rejection::rejected("sold out".into()).detail(), "sold out");
    }
}
