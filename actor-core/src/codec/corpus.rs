//! Bytes for tests of readers: valid ones, spoiled in the ways disks and strangers spoil them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::*;
use crate::clock::Rng;

/// Bytes that mean something to JSON, MessagePack or bincode: marks, lengths, the largest numbers.
const MEANINGFUL: &[u8] =
    b"{}[]\",:\\0-\x00\x80\x90\xa0\xc0\xc1\xc6\xcf\xd9\xdb\xdd\xdf\xfb\xfc\xfd\xff";

/// Returns `valid` with a few bytes changed, inserted, removed or cut off; at times only noise.
pub(crate) fn spoiled(rng: &Rng, valid: &[u8]) -> Vec<u8> {
    let below = |bound: usize| rng.below(bound as u64) as usize;
    if below(16) == 0 {
        return (0..below(64)).map(|_| rng.bits() as u8).collect();
    }
    let mut bytes = valid.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len() + 1);
        let new = match below(2) {
            0 => rng.bits() as u8,
            _ => MEANINGFUL[below(MEANINGFUL.len())],
        };
        match below(5) {
            0 => bytes.insert(at, new),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.extend_from_slice(&valid[below(valid.len())..]),
            _ if at < bytes.len() => bytes[at] = new,
            _ => {}
        }
    }
    bytes
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, bincode::Encode, bincode::Decode)]
struct Inner {
    text: String,
    bytes: Vec<u8>,
    maybe: Option<Box<Inner>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, bincode::Encode, bincode::Decode)]
enum Shape {
    Unit,
    One(u64),
    Named { small: i8, list: Vec<Shape> },
    Map(BTreeMap<String, Inner>),
}

fn shapes() -> Vec<Shape> {
    let inner = |text: &str, maybe| Inner {
        text: text.into(),
        bytes: vec![0, 127, 128, 255],
        maybe,
    };
    let nested = inner("é\0\u{10FFFF}", Some(Box::new(inner("", None))));
    vec![
        Shape::Unit,
        Shape::One(u64::MAX),
        Shape::Named {
            small: -128,
            list: vec![Shape::Unit, Shape::One(0), Shape::One(300)],
        },
        Shape::Map(BTreeMap::from([("k".into(), nested)])),
    ]
}

/// Whatever was read is a value like any other: it can be written and read again.
fn is_read_or_refused<T>(codec: Codec, bytes: &[u8]) -> bool
where
    T: DeserializeOwned + Serialize + PartialEq + fmt::Debug,
{
    let read: Result<T, CodecError> = codec.decode(bytes);
    if let Ok(value) = &read {
        let again = codec.encode(value).expect("what was read can be written");
        assert_eq!(
            codec.decode::<T>(&again).as_ref(),
            Ok(value),
            "{bytes:02x?}"
        );
    }
    read.is_ok()
}

#[test]
fn any_bytes_of_a_user_value_are_read_or_refused() {
    let rng = Rng::seeded(23);
    for codec in [Codec::Json, Codec::Msgpack] {
        let (mut read, mut refused) = (0, 0);
        for shape in shapes() {
            let valid = codec.encode(&shape).expect("encodes");
            assert!(is_read_or_refused::<Shape>(codec, &valid));
            for _ in 0..10_000 {
                match is_read_or_refused::<Shape>(codec, &spoiled(&rng, &valid)) {
                    true => read += 1,
                    false => refused += 1,
                }
            }
        }
        assert!(read > 100 && refused > 10_000, "{codec:?} {read} {refused}");
    }
}

#[test]
fn any_bytes_of_a_row_are_read_or_refused() {
    let rng = Rng::seeded(29);
    let (mut read, mut refused) = (0, 0);
    for shape in shapes() {
        let valid = encode_row(&shape);
        for _ in 0..20_000 {
            match decode_row::<Shape>(&spoiled(&rng, &valid)) {
                Ok(shape) => {
                    read += 1;
                    assert_eq!(decode_row(&encode_row(&shape)), Ok(shape));
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(read > 100 && refused > 10_000, "{read} {refused}");
}

#[test]
fn a_row_that_claims_to_be_huge_is_refused_before_it_is_allocated() {
    // A byte sequence of 2^63 bytes, in the widest form of a length.
    let mut bytes = vec![1, 0xfd];
    bytes.extend_from_slice(&(1_u64 << 63).to_le_bytes());

    assert!(decode_row::<Vec<u8>>(&bytes).is_err());
    assert!(decode_row::<Vec<Shape>>(&bytes).is_err());
    assert!(decode_row::<String>(&bytes).is_err());
}

#[test]
fn nesting_without_end_is_refused_and_does_not_overflow_the_stack() {
    let json = "[".repeat(100_000);
    let mut msgpack = vec![0x91; 100_000];
    msgpack.push(0xc0);

    assert!(
        Codec::Json
            .decode::<serde_json::Value>(json.as_bytes())
            .is_err()
    );
    assert!(
        Codec::Msgpack
            .decode::<serde_json::Value>(&msgpack)
            .is_err()
    );
    assert!(
        Codec::Msgpack
            .decode::<serde::de::IgnoredAny>(&msgpack)
            .is_err()
    );
}
