//! What every answer of a program has, whoever wrote its routes: a deadline, a body limit, and
//! problems instead of empty errors.

use std::time::Duration;

use actor_core::clock::Clock;
use axum::{
    Router,
    body::HttpBody,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::select;

use super::ServeConfig;
use crate::{gateway::shown, rejection::Rejection};

/// Adds it.
pub(super) fn dress(app: Router, config: &ServeConfig) -> Router {
    app.layer(DefaultBodyLimit::max(config.body_bytes_max))
        .layer(middleware::from_fn_with_state(
            config.request_timeout,
            deadline,
        ))
        .layer(middleware::from_fn(problems))
}

/// Ends a request that gives no answer. Streams are not cut: their answer has begun.
async fn deadline(State(within): State<Duration>, request: Request, next: Next) -> Response {
    select! {
        biased;
        response = next.run(request) => response,
        // Dropping a handler is what a client that goes away does, too.
        () = Clock.sleep(within) => {
            let text = format!("there was no answer within {within:?}");
            Rejection::new("timeout", text).into_response()
        }
    }
}

/// Gives the framework's own empty errors a problem body.
async fn problems(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let empty = response.body().is_end_stream();
    if !empty || response.headers().contains_key(header::CONTENT_TYPE) {
        return response;
    }
    let rejection = match response.status() {
        StatusCode::NOT_FOUND => Rejection::new(
            "not_hosted",
            format_args!("there is nothing at {}", shown(&path)),
        ),
        StatusCode::METHOD_NOT_ALLOWED => {
            let text = format!("{} does not answer {method}", shown(&path));
            Rejection::new("not_hosted", text).with_status(StatusCode::METHOD_NOT_ALLOWED)
        }
        _ => return response,
    };
    let (mut parts, body) = rejection.into_response().into_parts();
    // What the router said in headers, such as `Allow`, stays.
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH {
            parts.headers.entry(name).or_insert_with(|| value.clone());
        }
    }
    Response::from_parts(parts, body)
}
