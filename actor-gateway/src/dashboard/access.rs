//! Who may operate the node: whoever knows the admin token; without one, whoever sits at it.
//!
//! Sitting at it means that the peer *and* the name it asked for are loopback and nobody forwarded
//! the request: a web page elsewhere that points a name at 127.0.0.1 does not count.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use actor_core::Refusal;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderMap, Method, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{gateway::Shared, rejection::Rejection};

/// Headers, beside all of `x-forwarded-…`, that say a request came through somebody else.
const FORWARDED: [&str; 3] = ["forwarded", "via", "x-real-ip"];

/// Lets a request for the JSON through, or not.
pub(super) async fn api(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (headers, extensions) = (request.headers(), request.extensions());
    let allowed = match &shared.admin_token {
        Some(token) => bearer(headers, token),
        None => {
            at_the_node(headers, extensions).and_then(|()| same_site(request.method(), headers))
        }
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// Lets a request for the page through, or not. With a token the page asks for it and holds nothing
/// worth guarding itself.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = match &shared.admin_token {
        Some(_) => Ok(()),
        None => at_the_node(request.headers(), request.extensions()),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.into_response(),
    }
}

fn bearer(headers: &HeaderMap, token: &str) -> Result<(), Rejection> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.split_once(' '));
    let right = given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer") && equal(given.trim().as_bytes(), token.as_bytes())
    });
    if right {
        Ok(())
    } else {
        Err(Refusal::Unauthorized.into())
    }
}

/// Compares in a time that tells nothing about where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

fn at_the_node(headers: &HeaderMap, extensions: &Extensions) -> Result<(), Rejection> {
    let refuse = |why: &str| {
        let text =
            format!("{why}: without ACTOR_ADMIN_TOKEN only this machine may operate the node");
        Err(Rejection::new("forbidden", text))
    };
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    if !peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback()) {
        return refuse("the peer is not on loopback");
    }
    let names_loopback = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if !names_loopback.is_some_and(is_loopback_host)
        || headers.get_all(header::HOST).iter().count() > 1
    {
        return refuse("the host asked for is not loopback");
    }
    let forwarded = |name: &str| name.starts_with("x-forwarded-") || FORWARDED.contains(&name);
    if headers.keys().any(|name| forwarded(name.as_str())) {
        return refuse("the request was forwarded");
    }
    Ok(())
}

/// Says whether a `Host` is `localhost` or a loopback address, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let loopback = address
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback());
    loopback || name.eq_ignore_ascii_case("localhost")
}

/// Keeps other sites' pages from pressing buttons here: a browser says whose page it is.
fn same_site(method: &Method, headers: &HeaderMap) -> Result<(), Rejection> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let text = |name| {
        headers
            .get(name)
            .map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or(""))
    };
    let origin =
        text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |parts| parts.1));
    let own_origin = origin.is_none_or(|origin| Some(origin) == text(header::HOST));
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let own_site = site.is_none_or(|site| site == b"same-origin" || site == b"none");
    if own_origin && own_site {
        return Ok(());
    }
    Err(Rejection::new(
        "forbidden",
        "the request comes from another site's page",
    ))
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Rng;

    use super::*;

    #[test]
    fn only_loopback_names_count_as_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.evil.example",
            "a@localhost",
            "localhost:80:90",
            "::1",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_equal_only_as_a_whole() {
        assert!(equal(b"secret", b"secret"));
        assert!(!equal(b"secret", b"secre"));
        assert!(!equal(b"", b"secret"));
        assert!(!equal(b"Secret", b"secret"));
    }

    #[test]
    fn no_host_makes_the_reader_panic() {
        let rng = Rng::seeded(23);
        let alphabet = b"[]:.@localhost127\xff/ %";
        for _ in 0..20_000 {
            let pick = |_| alphabet[rng.below(alphabet.len() as u64) as usize];
            let bytes: Vec<u8> = (0..rng.below(24)).map(pick).collect();
            is_loopback_host(&String::from_utf8_lossy(&bytes));
        }
    }
}
