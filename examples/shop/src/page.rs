//! The page at `/`: plain files in `page/`, inside the program, so that there is nothing to deploy.

use axum::{
    Json, Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

use crate::catalogue::PRODUCTS;

/// What the page may load and connect to: this server only.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Each file: its path, media type and text.
const FILES: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    ),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("../page/style.css"),
    ),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("../page/icon.svg"),
    ),
    ("/page/app.js", JAVASCRIPT, include_str!("../page/app.js")),
    (
        "/page/socket.js",
        JAVASCRIPT,
        include_str!("../page/socket.js"),
    ),
    (
        "/page/outbox.js",
        JAVASCRIPT,
        include_str!("../page/outbox.js"),
    ),
    ("/page/view.js", JAVASCRIPT, include_str!("../page/view.js")),
];

/// Returns the routes of the page and of the catalogue it shows.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let router = Router::new().route("/catalogue", get(async || Json(PRODUCTS)));
    FILES
        .iter()
        .fold(router, |router, &(path, media_type, text)| {
            router.route(path, get(async move || file(media_type, text)))
        })
}

fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Asked for anew at each load: the files change with the program.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
