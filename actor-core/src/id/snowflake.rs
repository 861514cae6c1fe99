//! Ids of 64 bits that sort by the time they were made.
//!
//! Not here: who makes them, and why none is made twice (`snowflake` of actor-cluster).

use std::{
    error::Error,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The moment from which the time in an id is counted, in milliseconds since 1970: the first of
/// 2025, UTC.
const START_MS: i64 = 1_735_689_600_000;

const SEQUENCE_BITS: u32 = 12;
const MACHINE_BITS: u32 = 10;
const TIME_BITS: u32 = 64 - MACHINE_BITS - SEQUENCE_BITS;

/// A unique id: 42 bits of milliseconds since 2025, 10 bits of the machine that made it, 12 bits of
/// a sequence within the millisecond.
///
/// Ids of one node grow; ids of several nodes sort by time, as far as their clocks agree. As text,
/// and in JSON and MessagePack, it is a decimal string: JavaScript's numbers have 53 bits.
///
/// ```
/// use actor_core::id::Snowflake;
///
/// let id: Snowflake = "189152205725671425".parse()?;
/// assert_eq!((id.machine().number(), id.sequence()), (42, 1));
/// assert_eq!(serde_json::to_string(&id)?, "\"189152205725671425\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snowflake(u64);

/// The number under which a life of a node makes ids; below [`MachineId::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(u16);

impl MachineId {
    /// How many there are.
    pub const COUNT: u16 = 1 << MACHINE_BITS;

    /// Wraps a number; `None` if it is not below [`MachineId::COUNT`].
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// Returns the number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl Snowflake {
    /// How many ids one machine can make in one millisecond.
    pub const PER_MS: u16 = 1 << SEQUENCE_BITS;

    /// Puts an id together; the time is in milliseconds since 1970. `None` before 2025, from 2164
    /// on, and for a sequence that is not below [`Snowflake::PER_MS`].
    pub fn from_parts(at_ms: i64, machine: MachineId, sequence: u16) -> Option<Self> {
        let time = u64::try_from(at_ms.checked_sub(START_MS)?).ok()?;
        if time >> TIME_BITS != 0 || sequence >= Self::PER_MS {
            return None;
        }
        let machine = u64::from(machine.0) << SEQUENCE_BITS;
        let time = time << (MACHINE_BITS + SEQUENCE_BITS);
        Some(Self(time | machine | u64::from(sequence)))
    }

    /// Returns all 64 bits, for a column or a frame.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Reads what [`Snowflake::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns when it was made, in milliseconds since 1970.
    pub fn made_at_ms(self) -> i64 {
        START_MS + (self.0 >> (MACHINE_BITS + SEQUENCE_BITS)).cast_signed()
    }

    /// Returns when it was made, to the millisecond.
    pub fn made_at(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.made_at_ms().cast_unsigned())
    }

    /// Returns which machine made it.
    pub fn machine(self) -> MachineId {
        MachineId(((self.0 >> SEQUENCE_BITS) % u64::from(MachineId::COUNT)) as u16)
    }

    /// Returns its place among the ids of its machine and millisecond.
    pub fn sequence(self) -> u16 {
        (self.0 % u64::from(Self::PER_MS)) as u16
    }
}

impl fmt::Display for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snowflake({})", self.0)
    }
}

/// A text that is no [`Snowflake`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSnowflake(());

impl fmt::Display for NoSnowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a snowflake id: accepted are 1 to 20 digits below 2^64")
    }
}

impl Error for NoSnowflake {}

impl FromStr for Snowflake {
    type Err = NoSnowflake;

    fn from_str(text: &str) -> Result<Self, NoSnowflake> {
        // `u64` would also read a sign.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoSnowflake(()));
        }
        text.parse().map(Self).map_err(|_| NoSnowflake(()))
    }
}

impl Serialize for Snowflake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snowflake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u16) -> MachineId {
        MachineId::new(number).expect("below 1024")
    }

    #[test]
    fn parts_come_back_and_time_comes_first_in_the_order() {
        for (at_ms, number, sequence) in [
            (START_MS, 0, 0),
            (START_MS + 1, 1023, 4095),
            (1_780_000_000_123, 513, 77),
            (START_MS + (1 << 42) - 1, 1023, 4095),
        ] {
            let id = Snowflake::from_parts(at_ms, machine(number), sequence).expect("in range");

            assert_eq!(id.made_at_ms(), at_ms);
            assert_eq!(id.machine(), machine(number));
            assert_eq!(id.sequence(), sequence);
            assert_eq!(Snowflake::from_bits(id.to_bits()), id);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        let early = Snowflake::from_parts(START_MS + 5, machine(1023), 4095);
        let late = Snowflake::from_parts(START_MS + 6, machine(0), 0);
        assert!(early < late);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(MachineId::new(1024), None);
        let refused = [
            (START_MS - 1, 0),
            (START_MS + (1 << 42), 0),
            (START_MS, 4096),
            (i64::MIN, 0),
        ];
        for (at_ms, sequence) in refused {
            let id = Snowflake::from_parts(at_ms, machine(0), sequence);
            assert_eq!(id, None, "{at_ms} {sequence}");
        }
        for text in ["", "-1", "+1", "1e3", "18446744073709551616", "a"] {
            assert!(text.parse::<Snowflake>().is_err(), "{text}");
        }
    }

    #[test]
    fn on_the_wire_it_is_a_text() {
        let id = Snowflake::from_bits(u64::MAX);

        let json = serde_json::to_string(&id).expect("written");

        assert_eq!(json, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<Snowflake>(&json).expect("read"), id);
        assert!(serde_json::from_str::<Snowflake>("12").is_err());
    }
}
