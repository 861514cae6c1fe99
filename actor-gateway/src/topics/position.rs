//! A place in a topic as text: `epoch:offset`, both decimal.

use actor_core::topic::Position;

use crate::{gateway::shown, rejection::Rejection};

/// Writes a position.
pub(crate) fn write(position: Position) -> String {
    format!("{}:{}", position.epoch, position.offset)
}

/// Reads a position that `name` gave.
pub(crate) fn read(name: &str, text: &str) -> Result<Position, Rejection> {
    let parsed = text.split_once(':').and_then(|(epoch, offset)| {
        Some(Position {
            epoch: number(epoch)?,
            offset: number(offset)?,
        })
    });
    parsed.ok_or_else(|| {
        let text = format!("`{name}` is {}: write `epoch:offset`", shown(text));
        Rejection::new("decode", text)
    })
}

/// Reads decimal digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use actor_core::clock::Rng;

    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let rng = Rng::seeded(3);
        for _ in 0..1000 {
            let position = Position {
                epoch: rng.bits(),
                offset: rng.bits(),
            };

            assert_eq!(read("Last-Event-ID", &write(position)), Ok(position));
        }
    }

    #[test]
    fn what_is_no_position_is_refused_by_name() {
        let bad = [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "+1:2",
            "1:-2",
            "1:2:3",
            "99999999999999999999:1",
            "é:1",
        ];
        for text in bad {
            let error = read("Last-Event-ID", text).expect_err(text);

            assert!(error.detail().starts_with("`Last-Event-ID`"), "{error}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let rng = Rng::seeded(5);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(24)).map(|_| rng.bits() as u8).collect();
            let digits: String = bytes
                .iter()
                .map(|byte| char::from(byte % 11 + b'0'))
                .collect();
            drop(read("since", &String::from_utf8_lossy(&bytes)));
            drop(read("since", &digits));
        }
    }
}
