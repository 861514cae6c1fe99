//! `/sagas/{kind}/{id}…`: start a saga, wait for its result, signal and steer it.
//!
//! A saga's kind answers the methods `start`, `result`, `signal`, `cancel`, `pause` and `resume`.

use std::{sync::Arc, time::Duration};

use actor_core::{Invocation, codec::Codec};
use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    gateway::{Family, Shared},
    preferences,
    rejection::Rejection,
    request::{self, Incoming, Segments},
};

/// What a caller waits for an answer beyond the time it asked the saga to wait.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_secs(5);

type Address = Segments<(String, String)>;

/// Starts a saga; the same id again returns the same run.
pub(crate) async fn start(
    state: State<Arc<Shared>>,
    address: Address,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    let input = match (incoming.body.is_empty(), incoming.codec) {
        (true, Codec::Json) => b"{}".to_vec(),
        _ => incoming.body.to_vec(),
    };
    let codec = incoming.codec;
    ask(
        &state,
        address,
        &incoming,
        "start",
        codec,
        input,
        StatusCode::ACCEPTED,
    )
    .await
}

/// Returns a saga's state, with its result once it ended; `?wait=5s` waits for the end.
pub(crate) async fn result(
    state: State<Arc<Shared>>,
    address: Address,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    let asked = incoming.asked.wait.as_deref();
    let asked = asked
        .map(|text| preferences::duration("wait", text))
        .transpose()?;
    let wait = asked.or(incoming.preferences.wait).unwrap_or_default();
    let args = wait_args(wait);
    ask(
        &state,
        address,
        &incoming,
        "result",
        Codec::Json,
        args,
        StatusCode::OK,
    )
    .await
}

/// Hands a saga a value from outside.
pub(crate) async fn signal(
    state: State<Arc<Shared>>,
    Segments((kind, id, name)): Segments<(String, String, String)>,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    let args = signal_args(&name, incoming.codec, &incoming.body)?;
    let (address, codec) = (Segments((kind, id)), incoming.codec);
    ask(
        &state,
        address,
        &incoming,
        "signal",
        codec,
        args,
        StatusCode::ACCEPTED,
    )
    .await
}

/// Ends a saga early; what it did is undone.
pub(crate) async fn cancel(
    state: State<Arc<Shared>>,
    address: Address,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    steer(&state, address, &incoming, "cancel").await
}

/// Stops a saga's progress until it is resumed.
pub(crate) async fn pause(
    state: State<Arc<Shared>>,
    address: Address,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    steer(&state, address, &incoming, "pause").await
}

/// Lets a paused saga go on.
pub(crate) async fn resume(
    state: State<Arc<Shared>>,
    address: Address,
    incoming: Incoming,
) -> Result<Response, Rejection> {
    steer(&state, address, &incoming, "resume").await
}

async fn steer(
    shared: &Shared,
    address: Address,
    incoming: &Incoming,
    verb: &str,
) -> Result<Response, Rejection> {
    let args = b"{}".to_vec();
    ask(
        shared,
        address,
        incoming,
        verb,
        Codec::Json,
        args,
        StatusCode::ACCEPTED,
    )
    .await
}

async fn ask(
    shared: &Shared,
    Segments((kind, id)): Address,
    incoming: &Incoming,
    verb: &str,
    codec: Codec,
    args: Vec<u8>,
    status: StatusCode,
) -> Result<Response, Rejection> {
    let wait = incoming.asked.wait.as_deref();
    let wait = wait
        .map(|text| preferences::duration("wait", text))
        .transpose()?;
    let timeout = match incoming.asked.timeout_ms {
        Some(_) => preferences::timeout(incoming.asked.timeout_ms, incoming.preferences),
        None => wait.or(incoming.preferences.wait).unwrap_or_default() + ANSWER_MARGIN,
    };
    let mut invocation = Invocation::new(kind, id, verb)
        .args(codec, args)
        .reply_in(incoming.reply)
        .timeout(timeout);
    if let Some(key) = &incoming.key {
        invocation = invocation.key(key);
    }
    let outcome = request::invoke(shared, &incoming.caller, Family::Sagas, invocation).await?;
    request::answer(status, incoming.reply, outcome)
}

/// Returns the arguments of `result`.
pub(crate) fn wait_args(wait: Duration) -> Vec<u8> {
    format!(r#"{{"wait_ms":{}}}"#, wait.as_millis()).into_bytes()
}

/// Returns the arguments of `signal` around data that is passed on as it came.
pub(crate) fn signal_args(name: &str, codec: Codec, data: &[u8]) -> Result<Vec<u8>, Rejection> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Rejection::new("decode", format_args!("the signal's data: {error}"))
    };
    match codec {
        Codec::Json => {
            #[derive(Serialize)]
            struct Signal<'a> {
                name: &'a str,
                data: &'a RawValue,
            }
            let data = if data.is_empty() { b"null" } else { data };
            let data = serde_json::from_slice(data).map_err(|error| unreadable(&error))?;
            codec
                .encode(&Signal { name, data })
                .map_err(|error| unreadable(&error))
        }
        Codec::Msgpack => {
            // A map of two entries; the data is spliced in unread.
            let mut args = vec![0x82];
            for text in ["name", name, "data"] {
                args.extend(codec.encode(text).map_err(|error| unreadable(&error))?);
            }
            args.extend_from_slice(if data.is_empty() { &[0xc0] } else { data });
            Ok(args)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signals_data_has_one_shape_in_both_codecs() {
        let expected = serde_json::json!({"name": "go", "data": {"n": 1}});
        for codec in [Codec::Json, Codec::Msgpack] {
            let data = codec.encode(&expected["data"]).expect("encodes");

            let args = signal_args("go", codec, &data).expect("splices");

            assert_eq!(
                codec.decode::<serde_json::Value>(&args),
                Ok(expected.clone())
            );
        }
        assert!(signal_args("go", Codec::Json, b"{").is_err());
    }
}
