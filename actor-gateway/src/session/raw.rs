//! Objects whose values stay bytes: what a client sends for a handler is handed on unread.

use std::collections::BTreeMap;

use actor_core::codec::Codec;
use serde_json::{error::Category, value::RawValue};

/// The values of an object, still in its codec.
pub(super) type Fields<'a> = BTreeMap<String, &'a [u8]>;

/// Why bytes are not an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are not of the codec at all.
    Broken(String),
    /// They are something else than an object with text for keys.
    NoObject,
}

/// Splits an object into its values.
pub(super) fn fields(codec: Codec, bytes: &[u8]) -> Result<Fields<'_>, Unreadable> {
    match codec {
        Codec::Json => json(bytes),
        Codec::Msgpack => msgpack(bytes),
    }
}

fn json(bytes: &[u8]) -> Result<Fields<'_>, Unreadable> {
    let read = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes);
    let read = read.map_err(|error| match error.classify() {
        Category::Data => Unreadable::NoObject,
        _ => Unreadable::Broken(error.to_string()),
    })?;
    Ok(read
        .into_iter()
        .map(|(key, value)| (key, value.get().as_bytes()))
        .collect())
}

fn msgpack(bytes: &[u8]) -> Result<Fields<'_>, Unreadable> {
    let broken = || Unreadable::Broken("the bytes are not MessagePack".to_owned());
    if skip(bytes) != Some(bytes.len()) {
        return Err(broken());
    }
    let (count, mut rest) = match bytes {
        [marker @ 0x80..=0x8f, rest @ ..] => (usize::from(marker & 0x0f), rest),
        [0xde, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
        // A longer map does not fit a message.
        _ => return Err(Unreadable::NoObject),
    };
    let mut fields = Fields::new();
    for _ in 0..count {
        let (key, after) = rest.split_at(skip(rest).ok_or_else(broken)?);
        let (value, after) = after.split_at(skip(after).ok_or_else(broken)?);
        let key = Codec::Msgpack
            .decode::<String>(key)
            .map_err(|_| Unreadable::NoObject)?;
        fields.insert(key, value);
        rest = after;
    }
    Ok(fields)
}

/// Returns how many bytes the first MessagePack value takes; `None` if it is cut off.
///
/// It counts values instead of calling itself: nesting costs no stack.
fn skip(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut pending) = (0_usize, 1_usize);
    while pending > 0 {
        let marker = *bytes.get(at)?;
        at += 1;
        let number = |width: usize| -> Option<usize> {
            let digits = bytes.get(at..at.checked_add(width)?)?;
            digits.iter().try_fold(0_usize, |sum, digit| {
                sum.checked_mul(256)?.checked_add(usize::from(*digit))
            })
        };
        // The bytes that follow the marker, and the values inside.
        let (length, inside) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * usize::from(marker & 0x0f)),
            0x90..=0x9f => (0, usize::from(marker & 0x0f)),
            0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
            0xc1 => return None,
            0xc4 | 0xd9 => (1 + number(1)?, 0),
            0xc5 | 0xda => (2 + number(2)?, 0),
            0xc6 | 0xdb => (number(4)?.checked_add(4)?, 0),
            0xc7 => (2 + number(1)?, 0),
            0xc8 => (3 + number(2)?, 0),
            0xc9 => (number(4)?.checked_add(5)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), 0),
            0xdc => (2, number(2)?),
            0xdd => (4, number(4)?),
            0xde => (2, 2 * number(2)?),
            0xdf => (4, number(4)?.checked_mul(2)?),
        };
        at = at.checked_add(length).filter(|at| *at <= bytes.len())?;
        // Each value takes a byte at least: more of them than bytes left cannot be complete.
        pending = (pending - 1).checked_add(inside)?;
        if pending > bytes.len() - at {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Rng;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_objects_values_are_found_in_both_codecs() {
        let long = "x".repeat(300);
        let object = json!({
            "a": {"deep": [1, -1, 2.5, null, true, 1_u64 << 40]}, "b": long, "c": [], "d": "é",
        });
        for codec in [Codec::Json, Codec::Msgpack] {
            let bytes = codec.encode(&object).expect("encodes");

            let fields = fields(codec, &bytes).expect("an object");

            assert_eq!(fields.len(), 4);
            for (key, value) in fields {
                assert_eq!(
                    codec.decode::<Value>(value).expect("a value"),
                    object[&key],
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_broken() {
        assert_eq!(fields(Codec::Json, b"[1]"), Err(Unreadable::NoObject));
        assert!(matches!(
            fields(Codec::Json, b"{\"a\":"),
            Err(Unreadable::Broken(_))
        ));
        assert_eq!(
            fields(Codec::Msgpack, &[0x91, 1]),
            Err(Unreadable::NoObject)
        );
        assert!(matches!(
            fields(Codec::Msgpack, &[0x81, 0xa1]),
            Err(Unreadable::Broken(_))
        ));
        let huge = [0xdf, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            fields(Codec::Msgpack, &huge),
            Err(Unreadable::Broken(_))
        ));
    }

    #[test]
    fn no_bytes_make_the_readers_panic() {
        let rng = Rng::seeded(13);
        let valid = Codec::Msgpack
            .encode(&json!({"a": [1, {"b": "c"}], "d": 1.5}))
            .expect("encodes");
        for _ in 0..50_000 {
            let mut bytes = valid.clone();
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.bits() as u8;
            }
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            drop((fields(Codec::Msgpack, &bytes), fields(Codec::Json, &bytes)));
        }
    }
}
