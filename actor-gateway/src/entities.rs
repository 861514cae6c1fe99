//! `POST /entities/{kind}/{id}/{method}`: a call by name.

use std::sync::Arc;

use actor_core::Invocation;
use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use crate::{
    gateway::{Family, Shared},
    preferences,
    rejection::Rejection,
    request::{self, Incoming, Segments},
};

/// Says which preference was followed (RFC 7240).
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Calls a method; with `Prefer: respond-async` waits for acceptance only.
pub(crate) async fn call(
    State(shared): State<Arc<Shared>>,
    Segments((kind, id, method)): Segments<(String, String, String)>,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    let timeout = preferences::timeout(incoming.asked.timeout_ms, incoming.preferences);
    let mut invocation = Invocation::new(kind, id, method)
        .args(incoming.codec, incoming.body.to_vec())
        .reply_in(incoming.reply)
        .timeout(timeout);
    if let Some(key) = &incoming.key {
        invocation = invocation.key(key);
    }
    let cast = incoming.preferences.respond_async;
    if cast {
        invocation = invocation.cast();
    }
    let invoked = request::invoke(&shared, &incoming.caller, Family::Entities, invocation);
    let outcome = invoked.await?;
    if !cast {
        return request::answer(StatusCode::OK, incoming.reply, outcome);
    }
    let mut response = StatusCode::ACCEPTED.into_response();
    let applied = HeaderValue::from_static("respond-async");
    response.headers_mut().insert(APPLIED, applied);
    Ok(response)
}
