//! `/topics/{topic}`: publish, and listen as server-sent events.

pub(crate) mod feed;
pub(crate) mod position;

use std::{convert::Infallible, sync::Arc, time::Duration};

use actor_core::{
    Refusal,
    client::CALL_TIMEOUT,
    codec::Codec,
    mailbox::Announcement,
    topic::{Position, TopicEvent},
};
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::select;

use self::feed::{Feed, Opened};
use crate::{
    drain::Drain,
    gateway::{Operation, Shared, TopicAccess},
    negotiation,
    rejection::Rejection,
    request::{self, Caller, Incoming, Segments},
    session::registry::Admitted,
};

/// The name of events that come from outside: `#[on]` handlers know events by other names.
const OUTSIDE: &str = "outside";

/// How deep an event may be nested: what readers of JSON commonly take.
const DEPTH_MAX: usize = 100;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Publishes the body, any JSON, on a topic.
pub(crate) async fn publish(
    State(shared): State<Arc<Shared>>,
    Segments(topic): Segments<String>,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    if incoming.codec != Codec::Json {
        let text = "topics carry JSON: send `application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Rejection::new("decode", text).with_status(status));
    }
    let position = announce(&shared, &incoming.caller, &topic, &incoming.body).await?;
    Ok(axum::Json(position).into_response())
}

/// Publishes from outside: no key, no handler's event name, so it reaches listeners only.
pub(crate) async fn announce(
    shared: &Shared,
    caller: &Caller,
    topic: &str,
    data: &[u8],
) -> Result<Position, Refusal> {
    shared.open_topic(topic, TopicAccess::Publish)?;
    shared
        .guard
        .permit(&caller.visitor, Operation::Publish { topic })?;
    let refused = |why: String| Refusal::Decode(format!("the event: {why}").into());
    let data =
        serde_json::from_slice::<&RawValue>(data).map_err(|error| refused(error.to_string()))?;
    if depth(data.get()) > DEPTH_MAX {
        return Err(refused(format!("it is nested more than {DEPTH_MAX} deep")));
    }
    let announcement = Announcement {
        topic: topic.into(),
        name: OUTSIDE.into(),
        key: None,
        data: data.get().as_bytes().into(),
    };
    let announced = request::within(CALL_TIMEOUT, caller.client.announce(announcement)).await?;
    Ok(announced.unwrap_or_default())
}

/// Returns how deep a JSON text is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Opens a feed for somebody outside.
pub(crate) async fn open(
    shared: &Shared,
    caller: &Caller,
    topic: &str,
    since: Option<Position>,
) -> Result<Opened, Refusal> {
    shared.open_topic(topic, TopicAccess::Listen)?;
    shared
        .guard
        .permit(&caller.visitor, Operation::Listen { topic })?;
    request::within(
        CALL_TIMEOUT,
        Feed::open(caller.client.clone(), topic, since),
    )
    .await
}

/// Streams a topic's events, from `Last-Event-ID` or `?since=` on if given.
pub(crate) async fn listen(
    State(shared): State<Arc<Shared>>,
    Segments(topic): Segments<String>,
    request: Request,
) -> Result<Response, Rejection> {
    let (mut parts, _) = request.into_parts();
    if !negotiation::accepts_events(&parts.headers) {
        let text = "a topic is a stream: accept `text/event-stream`";
        return Err(Rejection::new("decode", text).with_status(StatusCode::NOT_ACCEPTABLE));
    }
    let caller = request::caller(&parts.extensions)?;
    let since = since(&mut parts).await?;
    let drain = drain(&mut parts, &shared).await;
    let place = shared.sessions.stream(&drain)?;
    let opened = open(&shared, &caller, &topic, since).await?;
    let retry = shared
        .sessions
        .reconnect_after(shared.client.hosting().rng());
    let events = Sse::new(events(opened, drain, place, retry)).keep_alive(
        KeepAlive::new()
            .interval(shared.limits.keep_alive)
            .text("keep-alive"),
    );
    let mut response = events.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    headers.insert(unbuffered, HeaderValue::from_static("no"));
    Ok(response)
}

/// Returns the position to go on from. The header wins: a browser sends it when it reconnects.
async fn since(parts: &mut Parts) -> Result<Option<Position>, Rejection> {
    if let Some(header) = parts.headers.get(LAST_EVENT_ID) {
        // A client that saw no event yet sends an empty id.
        let text = header.to_str().unwrap_or("?");
        return if text.is_empty() {
            Ok(None)
        } else {
            position::read("Last-Event-ID", text).map(Some)
        };
    }
    let asked = request::query(parts).await?.since;
    asked.map(|text| position::read("since", &text)).transpose()
}

/// Returns the drain of the server that serves this request, else the gateway's own.
pub(crate) async fn drain(parts: &mut Parts, shared: &Shared) -> Drain {
    let served = axum::Extension::<Drain>::from_request_parts(parts, &()).await;
    served.map_or_else(|_| shared.drain.clone(), |axum::Extension(drain)| drain)
}

/// What a stream of events goes through.
struct Streaming {
    feed: Feed,
    drain: Drain,
    retry: Duration,
    /// Whether the last words were said.
    ended: bool,
    _place: Admitted,
}

fn events(
    opened: Opened,
    drain: Drain,
    place: Admitted,
    retry: Duration,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = first_event(&opened);
    let streaming = Streaming {
        feed: opened.feed,
        drain,
        retry,
        ended: false,
        _place: place,
    };
    let rest = stream::unfold(streaming, |mut streaming| async {
        if streaming.ended {
            return None;
        }
        // Both arms are cancel safe: neither takes anything before it is ready.
        let next = select! {
            biased;
            () = streaming.drain.begun() => None,
            next = streaming.feed.next() => next,
        };
        let event = match next {
            Some(event) => to_event(&event),
            None => {
                streaming.ended = true;
                Event::default().retry(streaming.retry).comment("closing")
            }
        };
        Some((Ok(event), streaming))
    });
    stream::StreamExt::chain(stream::iter([Ok(first)]), rest)
}

/// Tells the client where it stands, so that it can resume before it saw any event; and, if its
/// position was too old, that events are missing.
fn first_event(opened: &Opened) -> Event {
    #[derive(Serialize)]
    struct Reset {
        epoch: u64,
        offset: u64,
    }
    let Position { epoch, offset } = opened.start;
    let event = Event::default().id(position::write(opened.start));
    if opened.recovered {
        return event; // An id without data moves the client's position and is not an event.
    }
    let reset = serde_json::to_string(&Reset { epoch, offset }).unwrap_or_default();
    event.event("reset").data(reset)
}

fn to_event(event: &TopicEvent) -> Event {
    // In JSON a raw line end can only stand between tokens: a space there means the same.
    let data = String::from_utf8_lossy(&event.data).replace(['\r', '\n'], " ");
    Event::default()
        .id(position::write(event.position))
        .data(data)
}
