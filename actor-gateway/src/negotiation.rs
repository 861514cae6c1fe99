//! Which codec a body is written in, and in which one the answer is wanted.

use actor_core::codec::Codec;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::rejection::Rejection;

/// The names MessagePack goes by, the registered one first.
const MSGPACK: [&str; 3] = [
    "application/vnd.msgpack",
    "application/msgpack",
    "application/x-msgpack",
];

/// Returns the media type answers in `codec` carry.
pub(crate) fn media_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "application/json",
        Codec::Msgpack => MSGPACK[0],
    }
}

/// Returns the codec of a body; an empty body needs no type.
pub(crate) fn body_codec(headers: &HeaderMap, empty: bool) -> Result<Codec, Rejection> {
    let text = text_of(headers, &header::CONTENT_TYPE)?;
    let Some(text) = text.filter(|_| !empty) else {
        return match empty {
            true => Ok(text.and_then(codec_of).unwrap_or(Codec::Json)),
            false => Err(unsupported("none")),
        };
    };
    codec_of(text).ok_or_else(|| unsupported(text))
}

/// Returns the codec the answer is wanted in: the best one `Accept` names, else the body's.
pub(crate) fn answer_codec(headers: &HeaderMap, body: Codec) -> Result<Codec, Rejection> {
    let Some(text) = text_of(headers, &header::ACCEPT)? else {
        return Ok(body);
    };
    let mut best: Option<(Codec, f32)> = None;
    for choice in text.split(',') {
        let Some(codec) = codec_of(choice) else {
            continue; // `*/*` and types we do not write leave the choice to us.
        };
        let weight = weight(choice);
        if weight > 0.0 && best.is_none_or(|(_, heaviest)| weight > heaviest) {
            best = Some((codec, weight));
        }
    }
    Ok(best.map_or(body, |(codec, _)| codec))
}

/// Says whether `Accept` names server-sent events or leaves the choice to us.
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let Ok(Some(text)) = text_of(headers, &header::ACCEPT) else {
        return true;
    };
    text.split(',').map(essence).any(|essence| {
        ["text/event-stream", "text/*", "*/*"]
            .iter()
            .any(|name| essence.eq_ignore_ascii_case(name))
    })
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<&str>, Rejection> {
    let text = headers.get(name).map(|value| value.to_str());
    let wrong = |_| Rejection::new("decode", format_args!("the header `{name}` is not text"));
    text.transpose().map_err(wrong)
}

/// Returns the part of a media type before its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn codec_of(media_type: &str) -> Option<Codec> {
    let essence = essence(media_type);
    if essence.eq_ignore_ascii_case("application/json") {
        return Some(Codec::Json);
    }
    let is_msgpack = MSGPACK
        .iter()
        .any(|name| essence.eq_ignore_ascii_case(name));
    is_msgpack.then_some(Codec::Msgpack)
}

/// Returns the `q` of a choice; one that cannot be read counts as 1.
fn weight(choice: &str) -> f32 {
    let parameters = choice.split(';').skip(1);
    let q = parameters
        .filter_map(|parameter| parameter.trim().strip_prefix("q="))
        .next();
    q.and_then(|q| q.trim().parse().ok())
        .filter(|q: &f32| q.is_finite())
        .unwrap_or(1.0)
}

fn unsupported(found: &str) -> Rejection {
    let shown: String = found.chars().take(80).collect();
    let detail = format!(
        "the content type is {shown:?}: send `application/json` or `{}`",
        MSGPACK[0]
    );
    Rejection::new("decode", detail).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Rng;
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, text: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(text).expect("a header"))])
    }

    #[test]
    fn the_body_says_its_codec() {
        let read = |text| body_codec(&headers(header::CONTENT_TYPE, text), false);

        assert_eq!(read("application/json; charset=utf-8"), Ok(Codec::Json));
        assert_eq!(read("Application/MsgPack"), Ok(Codec::Msgpack));
        assert_eq!(
            read("text/plain").map_err(|error| error.status().as_u16()),
            Err(415)
        );
        assert_eq!(body_codec(&HeaderMap::new(), true), Ok(Codec::Json));
        assert!(body_codec(&HeaderMap::new(), false).is_err());
    }

    #[test]
    fn the_answer_comes_in_the_codec_asked_for_else_in_the_bodys() {
        let read = |text, body| answer_codec(&headers(header::ACCEPT, text), body);

        assert_eq!(read("*/*", Codec::Msgpack), Ok(Codec::Msgpack));
        assert_eq!(read("application/msgpack", Codec::Json), Ok(Codec::Msgpack));
        let weighed = "application/json;q=0.2, application/x-msgpack;q=0.9";
        assert_eq!(read(weighed, Codec::Json), Ok(Codec::Msgpack));
        assert_eq!(
            read("application/msgpack;q=0, */*", Codec::Json),
            Ok(Codec::Json)
        );
    }

    #[test]
    fn no_header_makes_a_reader_panic() {
        let rng = Rng::seeded(11);
        let alphabet = b"application/json;q=0.,*msgpack\xff\t NaN-inf";
        for _ in 0..20_000 {
            let pick = |_| alphabet[rng.below(alphabet.len() as u64) as usize];
            let bytes: Vec<u8> = (0..rng.below(40)).map(pick).collect();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([
                    (header::ACCEPT, value.clone()),
                    (header::CONTENT_TYPE, value),
                ]);
                drop((
                    body_codec(&headers, false),
                    answer_codec(&headers, Codec::Json),
                ));
                accepts_events(&headers);
            }
        }
    }
}
