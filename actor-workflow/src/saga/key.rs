//! The idempotency key of a step.

use std::fmt;

use actor_core::id::CallId;

/// A stable idempotency key: the same for every attempt at a step, in every life of the node, and
/// different for every other step, run and compensation.
///
/// Hand it to whatever the step touches, so that a repeat of the step is recognized there. It is
/// shown as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey(CallId);

impl StepKey {
    /// Returns the key of a step, or of what undoes it.
    pub(crate) fn of(kind: &str, run: &str, position: u32, undo: bool) -> Self {
        let run = CallId::from_key("steps of a run").within(kind, run);
        Self(run.derive(u64::from(position) * 2 + u64::from(undo)))
    }

    /// Returns the id that calls made in the step derive theirs from.
    pub(crate) fn call_id(self) -> CallId {
        self.0
    }

    /// Returns the key as a UUID of version 8 (RFC 9562, free form).
    pub fn to_u128(self) -> u128 {
        let unmarked = self.0.0 & !(0xf << 76) & !(0x3 << 62);
        unmarked | 0x8 << 76 | 0x2 << 62
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.to_u128();
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            bits >> 80 & 0xffff,
            bits >> 64 & 0xffff,
            bits >> 48 & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stable_and_differs_by_run_position_and_purpose() {
        let key = StepKey::of("checkout", "order-7", 1, false);

        assert_eq!(key, StepKey::of("checkout", "order-7", 1, false));
        let others = [
            StepKey::of("checkout", "order-8", 1, false),
            StepKey::of("refund", "order-7", 1, false),
            StepKey::of("checkout", "order-7", 2, false),
            StepKey::of("checkout", "order-7", 1, true),
        ];
        assert!(others.iter().all(|other| *other != key));
    }

    #[test]
    fn a_key_is_shown_as_a_uuid() {
        let text = StepKey::of("checkout", "order-7", 1, false).to_string();

        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'8', "the version in {text}");
        assert!(
            b"89ab".contains(&text.as_bytes()[19]),
            "the variant in {text}"
        );
    }
}
