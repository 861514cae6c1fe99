//! The page's files, part of the program.

use axum::{
    extract::Path,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::{gateway::shown, rejection::Rejection};

/// What the page may do: load and talk to where it came from, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file, its media type and its text.
struct Asset(&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";

const INDEX: Asset = Asset(
    "index.html",
    "text/html; charset=utf-8",
    include_str!("../../dashboard/index.html"),
);

const ASSETS: [Asset; 6] = [
    Asset(
        "style.css",
        "text/css; charset=utf-8",
        include_str!("../../dashboard/style.css"),
    ),
    Asset("app.js", SCRIPT, include_str!("../../dashboard/app.js")),
    Asset("api.js", SCRIPT, include_str!("../../dashboard/api.js")),
    Asset("dom.js", SCRIPT, include_str!("../../dashboard/dom.js")),
    Asset(
        "panels.js",
        SCRIPT,
        include_str!("../../dashboard/panels.js"),
    ),
    Asset(
        "icon.svg",
        "image/svg+xml",
        include_str!("../../dashboard/icon.svg"),
    ),
];

/// Returns the page.
pub(super) async fn index() -> Response {
    respond(&INDEX)
}

/// Returns a file of the page.
pub(super) async fn file(Path(name): Path<String>) -> Result<Response, Rejection> {
    let asset = ASSETS.iter().find(|asset| asset.0 == name);
    let missing = || {
        Rejection::new(
            "not_hosted",
            format_args!("there is no file {}", shown(&name)),
        )
    };
    asset.map(respond).ok_or_else(missing)
}

fn respond(Asset(_, media_type, text): &Asset) -> Response {
    let headers = [
        (header::CONTENT_TYPE, *media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut response = (headers, *text).into_response();
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    response
        .headers_mut()
        .insert(opener, HeaderValue::from_static("same-origin"));
    response
}
