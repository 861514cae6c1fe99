//! A request from outside on its way in: admission, context, body, deadline.

use std::{sync::Arc, time::Duration};

use actor_core::{
    Client, Invocation, Refusal, RequestContext, clock::Clock, codec::Codec, entity::Encoded,
};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::select;

use crate::{
    gateway::{Family, Operation, Shared, Visitor},
    negotiation,
    preferences::{self, Preferences},
    rejection::Rejection,
};

/// The longest request id taken from outside, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What the gateway waits beyond a call's own deadline, so that the call's own answer wins.
const GRACE: Duration = Duration::from_millis(500);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Who asks, and the client that carries it along.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) visitor: Visitor,
    pub(crate) client: Client,
}

/// Admits a request or ends it: the first thing that sees it.
pub(crate) async fn admit(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let bits = || shared.client.hosting().rng().bits();
    let request_id =
        readable_id(&parts.headers).unwrap_or_else(|| format!("{:016x}{:016x}", bits(), bits()));
    let mut response = match shared.guard.admit(&parts).await {
        Ok(visitor) => {
            let context = RequestContext {
                tenant: visitor.tenant.clone(),
                request_id: Some(request_id.clone()),
                trace: traceparent(&parts.headers),
            };
            let client = shared.client.with_request(context);
            parts.extensions.insert(Caller { visitor, client });
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => Rejection::from(refusal).into_response(),
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Returns the caller's request id if it is short, visible text.
fn readable_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

/// Returns the W3C trace parent if it has the form of version 00.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (lengths == [2, 32, 16, 2] && parts.iter().all(hex)).then(|| text.to_owned())
}

/// What the query may hold.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) wait: Option<String>,
    pub(crate) since: Option<String>,
}

/// A request with its body, read within the bounds.
pub(crate) struct Incoming {
    pub(crate) caller: Caller,
    pub(crate) asked: Asked,
    pub(crate) preferences: Preferences,
    pub(crate) key: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) codec: Codec,
    pub(crate) reply: Codec,
}

impl FromRequest<Arc<Shared>> for Incoming {
    type Rejection = Rejection;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Rejection> {
        let (mut parts, body) = request.into_parts();
        let caller = caller(&parts.extensions)?;
        let asked = query(&mut parts).await?;
        let preferences = preferences::preferences(&parts.headers)?;
        let key = preferences::idempotency_key(&parts.headers)?;
        let headers = parts.headers.clone();
        let request = Request::from_parts(parts, body);
        let body = read_body(request, shared.limits.body_read_timeout).await?;
        let codec = negotiation::body_codec(&headers, body.is_empty())?;
        let reply = negotiation::answer_codec(&headers, codec)?;
        Ok(Self {
            caller,
            asked,
            preferences,
            key,
            body,
            codec,
            reply,
        })
    }
}

/// Returns the caller that [`admit`] left.
pub(crate) fn caller(extensions: &axum::http::Extensions) -> Result<Caller, Rejection> {
    let missing = || Rejection::new("unauthorized", "the request was not admitted");
    extensions.get::<Caller>().cloned().ok_or_else(missing)
}

/// Reads the query.
pub(crate) async fn query(parts: &mut axum::http::request::Parts) -> Result<Asked, Rejection> {
    let query = Query::<Asked>::from_request_parts(parts, &()).await;
    query
        .map(|Query(asked)| asked)
        .map_err(|error| Rejection::new("decode", error.body_text()))
}

async fn read_body(request: Request<Body>, within: Duration) -> Result<Bytes, Rejection> {
    select! {
        biased;
        // A body that is cut off was not acted on: dropping it is safe.
        read = Bytes::from_request(request, &()) => read.map_err(|error| {
            let too_large = error.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let kind = if too_large { "too_large" } else { "decode" };
            Rejection::new(kind, error.body_text())
        }),
        () = Clock.sleep(within) => {
            let text = format!("the body did not arrive within {within:?}");
            Err(Rejection::new("timeout", text).with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}

/// The parts of a path, decoded.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Rejection> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments))
            .map_err(|error| Rejection::new("decode", error.body_text()))
    }
}

/// Makes a call for a caller: exposed, permitted, and answered by a deadline.
pub(crate) async fn invoke(
    shared: &Shared,
    caller: &Caller,
    family: Family,
    invocation: Invocation,
) -> Result<Encoded, Refusal> {
    let (kind, id, method) = (
        &*invocation.kind,
        invocation.id.as_str(),
        &*invocation.method,
    );
    let deadline = shared.client.hosting().deadline(invocation.timeout);
    shared.exposed(family, kind, method, deadline).await?;
    if family == Family::Entities && !is_object(invocation.codec, &invocation.args) {
        let text = format!("arguments of `{kind}.{method}`: send an object of named arguments");
        return Err(Refusal::Decode(text.into()));
    }
    let operation = match family {
        Family::Entities => Operation::Call { kind, id, method },
        Family::Sagas => Operation::Saga {
            kind,
            id,
            verb: method,
        },
    };
    shared.guard.permit(&caller.visitor, operation)?;
    let timeout = invocation.timeout;
    within(timeout, caller.client.invoke(invocation)).await
}

/// Says whether arguments are named, or none: a list of them would break with the next argument.
fn is_object(codec: Codec, args: &[u8]) -> bool {
    match codec {
        Codec::Json => {
            let mut text = args.iter().copied().skip_while(u8::is_ascii_whitespace);
            matches!(text.next(), None | Some(b'{' | b'n'))
        }
        Codec::Msgpack => matches!(args.first(), None | Some(0x80..=0x8f | 0xc0 | 0xde | 0xdf)),
    }
}

/// Ends `call` at its deadline, so that nobody waits for ever.
///
/// # Cancel safety
/// A call that is dropped abandons its answer, never its work.
pub(crate) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    select! {
        biased;
        answer = call => answer,
        () = Clock.sleep(timeout + GRACE) => Err(Refusal::Timeout { started: true }),
    }
}

/// Writes an outcome as a response in `codec`; the handler's own error is always JSON.
pub(crate) fn answer(
    status: StatusCode,
    codec: Codec,
    outcome: Encoded,
) -> Result<Response, Rejection> {
    if outcome.ok {
        let content_type = [(header::CONTENT_TYPE, negotiation::media_type(codec))];
        return Ok((status, content_type, outcome.bytes).into_response());
    }
    let error = codec.decode::<serde_json::Value>(&outcome.bytes);
    Err(Rejection::rejected(error.unwrap_or_default()))
}

/// Answers a route that knows no such method.
pub(crate) async fn wrong_method(method: axum::http::Method) -> Rejection {
    Rejection::new(
        "not_hosted",
        format_args!("this address does not answer {method}"),
    )
    .with_status(StatusCode::METHOD_NOT_ALLOWED)
}
