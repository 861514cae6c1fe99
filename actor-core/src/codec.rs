//! How values become bytes: user payloads in JSON or MessagePack, our own rows in bincode.
//!
//! MessagePack is written with named fields in serde's human-readable mode, so a value has one
//! shape in both codecs (architecture D12). Our own rows carry a version byte and a decode limit.

#[cfg(test)]
pub(crate) mod corpus;

use std::fmt;

use bincode::error::DecodeError;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::caught::caught_now;

/// The largest row of our own that is decoded, in bytes.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What most rows and envelopes of ours take at most.
const ROW_BYTES_USUAL: usize = 128;

/// The version byte that opens each row of our own.
const ROW_VERSION: u8 = 1;

/// A format of user payloads.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Standard MessagePack, named fields, human-readable mode.
    #[default]
    Msgpack,
    /// JSON.
    Json,
}

/// A value that could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    why: Box<str>,
    panicked: bool,
}

impl CodecError {
    /// Wraps a reason.
    pub fn new(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string().into(),
            panicked: false,
        }
    }

    /// Says whether the value's own code panicked: a bug, and not a value without a form.
    pub fn is_panic(&self) -> bool {
        self.panicked
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for CodecError {}

impl Codec {
    /// Writes `value`.
    ///
    /// # Errors
    /// When the value's `Serialize` fails, panics or has no form in this codec.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        guarded(|| self.write(value))
    }

    /// Reads a value; bytes left over are an error.
    ///
    /// # Errors
    /// When the bytes are not a `T` in this codec, or its `Deserialize` panics.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        guarded(|| self.read(bytes))
    }

    fn write<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Json => serde_json::to_vec(value).map_err(CodecError::new),
            Self::Msgpack => {
                let mut bytes = Vec::with_capacity(64);
                let mut out = rmp_serde::Serializer::new(&mut bytes)
                    .with_struct_map()
                    .with_human_readable();
                value.serialize(&mut out).map_err(CodecError::new)?;
                Ok(bytes)
            }
        }
    }

    fn read<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(CodecError::new),
            Self::Msgpack => {
                let mut input = rmp_serde::Deserializer::new(bytes).with_human_readable();
                input.set_max_depth(128);
                let value = T::deserialize(&mut input).map_err(CodecError::new)?;
                if !input.get_ref().is_empty() {
                    return Err(CodecError::new("bytes follow the value"));
                }
                Ok(value)
            }
        }
    }
}

/// Runs what users wrote to write or read a value. It is called from tasks that are not theirs,
/// such as a lane's, which must not end with it.
fn guarded<T>(run: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    caught_now(run).unwrap_or_else(|panic| {
        Err(CodecError {
            why: format!("it panicked: {panic}").into(),
            panicked: true,
        })
    })
}

/// Writes a row of our own: a version byte, then bincode.
pub fn encode_row<T: bincode::Encode>(value: &T) -> Vec<u8> {
    // Room for most rows: growing would copy them several times.
    let mut bytes = Vec::with_capacity(ROW_BYTES_USUAL);
    bytes.push(ROW_VERSION);
    bincode::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("writing our own types to memory cannot fail");
    bytes
}

/// Reads a row of our own.
///
/// # Errors
/// When the version is unknown, the bytes are not a `T`, or they ask for more than
/// [`ROW_BYTES_MAX`].
pub fn decode_row<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    read_row(bytes, |body| {
        bincode::decode_from_slice(
            body,
            bincode::config::standard().with_limit::<ROW_BYTES_MAX>(),
        )
    })
}

/// As [`decode_row`], for a `T` that borrows its texts and bytes from the row.
///
/// # Errors
/// As [`decode_row`].
pub fn borrow_row<'a, T: bincode::BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    read_row(bytes, |body| {
        let config = bincode::config::standard().with_limit::<ROW_BYTES_MAX>();
        bincode::borrow_decode_from_slice(body, config)
    })
}

fn read_row<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&'a [u8]) -> Result<(T, usize), DecodeError>,
) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => match read(body) {
            Ok((value, read)) if read == body.len() => Ok(value),
            Ok(_) => Err(CodecError::new("bytes follow the row")),
            Err(error) => Err(CodecError::new(error)),
        },
        Some((version, _)) => Err(CodecError::new(format_args!(
            "row version {version} is unknown"
        ))),
        None => Err(CodecError::new("the row is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        sku: String,
        quantity: u32,
    }

    #[test]
    fn a_value_has_one_shape_in_both_codecs() {
        let line = Line {
            sku: "tea".into(),
            quantity: 2,
        };
        for codec in [Codec::Json, Codec::Msgpack] {
            let bytes = codec.encode(&line).expect("encodes");

            assert_eq!(
                codec.decode::<Line>(&bytes),
                Ok(Line {
                    sku: "tea".into(),
                    quantity: 2
                })
            );
        }
    }

    #[test]
    fn leftover_bytes_are_an_error() {
        for codec in [Codec::Json, Codec::Msgpack] {
            let mut bytes = codec.encode(&1_u8).expect("encodes");
            bytes.extend_from_slice(b"1");
            bytes.extend_from_slice(b" 1");

            assert!(codec.decode::<u8>(&bytes).is_err(), "{codec:?}");
        }
    }

    #[derive(Debug)]
    struct Brittle;

    impl Serialize for Brittle {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("not written")
        }
    }

    impl<'de> Deserialize<'de> for Brittle {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("not read")
        }
    }

    #[test]
    fn a_value_that_panics_is_an_error_that_says_so() {
        for codec in [Codec::Json, Codec::Msgpack] {
            let written = codec.encode(&Brittle).expect_err("it panics");
            let read = codec.decode::<Brittle>(b"0").expect_err("it panics");

            assert_eq!(written.to_string(), "it panicked: not written");
            assert_eq!(read.to_string(), "it panicked: not read");
            assert!(written.is_panic() && read.is_panic());
        }
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        let mut row = encode_row(&(1_u64, "x".to_owned()));
        assert_eq!(decode_row::<(u64, String)>(&row), Ok((1, "x".to_owned())));
        row[0] = 9;

        assert!(decode_row::<(u64, String)>(&row).is_err());
    }
}
