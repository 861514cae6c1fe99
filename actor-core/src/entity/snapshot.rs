//! A durable entity's state in bytes, with the top-level fields this program does not know.
//!
//! An old node may serve a state that a newer one wrote with more fields: it keeps what it does not
//! know and writes it back (architecture D12).

use serde::{Deserialize, de::IgnoredAny};

use super::Durable;
use crate::codec::CodecError;

/// Top-level fields of a stored state that the state's type does not have, as they were written.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    count: u32,
    /// Key and value of each, in MessagePack.
    bytes: Vec<u8>,
}

/// Reads a stored state and what it holds beyond the type `K`.
pub(super) fn load<K>(durable: &Durable<K>, stored: &[u8]) -> Result<(K, Unknown), CodecError> {
    let state = (durable.load)(stored)?;
    let written = match (durable.save)(&state) {
        // What the program does not know of the state could not be told from the rest.
        Err(error) if error.is_panic() => return Err(error),
        written => written.ok(),
    };
    let unknown = written.and_then(|written| unknown(durable, &written, stored));
    Ok((state, unknown.unwrap_or_default()))
}

/// Writes a state and the unknown fields it was read with.
pub(super) fn save<K>(
    durable: &Durable<K>,
    state: &K,
    unknown: &Unknown,
) -> Result<Vec<u8>, CodecError> {
    let known = (durable.save)(state)?;
    if unknown.count == 0 {
        return Ok(known);
    }
    merge(&known, unknown).ok_or_else(|| CodecError::new("the state is no longer a map"))
}

fn unknown<K>(durable: &Durable<K>, written: &[u8], stored: &[u8]) -> Option<Unknown> {
    let known = fields(written)?;
    let mut unknown = Unknown::default();
    for (name, raw) in fields(stored)? {
        if known.iter().all(|(other, _)| *other != name) {
            unknown.count += 1;
            unknown.bytes.extend_from_slice(raw);
        }
    }
    // A field read under an older name is not unknown: kept beside its new name it would be read
    // twice. Such a state does not load, and then nothing is kept.
    let merged = merge(written, &unknown)?;
    (durable.load)(&merged).is_ok().then_some(unknown)
}

fn merge(known: &[u8], unknown: &Unknown) -> Option<Vec<u8>> {
    let mut rest = known;
    let count = rmp::decode::read_map_len(&mut rest).ok()?;
    let mut merged = Vec::with_capacity(known.len() + unknown.bytes.len() + 4);
    rmp::encode::write_map_len(&mut merged, count.checked_add(unknown.count)?).ok()?;
    merged.extend_from_slice(rest);
    merged.extend_from_slice(&unknown.bytes);
    Some(merged)
}

/// Returns the fields of a MessagePack map with text keys: each name, and the bytes of key and
/// value.
fn fields(bytes: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut rest = bytes;
    let count = rmp::decode::read_map_len(&mut rest).ok()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let from = rest;
        let mut input = rmp_serde::Deserializer::new(rest).with_human_readable();
        let name = String::deserialize(&mut input).ok()?;
        IgnoredAny::deserialize(&mut input).ok()?;
        rest = input.get_ref();
        fields.push((name, &from[..from.len() - rest.len()]));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::{
        clock::Rng,
        codec::{Codec, corpus::spoiled},
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        a: u32,
        #[serde(alias = "before")]
        after: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        new: Vec<String>,
        a: u32,
        after: u32,
    }

    const OLD: Durable<Old> = Durable::msgpack(1);

    #[test]
    fn an_old_program_keeps_what_a_new_one_added() {
        let new = New {
            new: vec!["x".into()],
            a: 1,
            after: 2,
        };
        let stored = Codec::Msgpack.encode(&new).expect("encodes");

        let (mut state, unknown) = load(&OLD, &stored).expect("loads");
        state.a = 5;
        let saved = save(&OLD, &state, &unknown).expect("saves");

        assert_eq!(
            Codec::Msgpack.decode::<New>(&saved),
            Ok(New { a: 5, ..new })
        );
    }

    #[test]
    fn a_field_read_under_its_old_name_is_not_kept_twice() {
        let stored = Codec::Msgpack
            .encode(&serde_json::json!({"a": 1, "before": 2}))
            .expect("encodes");

        let (state, unknown) = load(&OLD, &stored).expect("loads");
        let saved = save(&OLD, &state, &unknown).expect("saves");

        assert_eq!(
            Codec::Msgpack.decode::<Old>(&saved),
            Ok(Old { a: 1, after: 2 })
        );
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let rng = Rng::seeded(31);
        let valid = Codec::Msgpack
            .encode(&serde_json::json!({
                "a": 1, "after": 2, "more": {"x": [1, null]}, "text": "é",
            }))
            .expect("encodes");
        let mut kept = 0;
        for _ in 0..40_000 {
            let bytes = spoiled(&rng, &valid);
            drop(fields(&bytes));
            let Ok((state, unknown)) = load(&OLD, &bytes) else {
                continue;
            };
            let saved = save(&OLD, &state, &unknown).expect("what was read can be stored");
            let (again, _) = load(&OLD, &saved).expect("what was stored can be read");
            assert_eq!(again, state, "{bytes:02x?}");
            kept += unknown.count;
        }
        assert!(kept > 100, "{kept} unknown fields were kept");
    }
}
