//! Where the random choices of a test come from: one printed number.

use std::env;

use crate::{Context, Result};

/// Names the variable that repeats a run.
const VARIABLE: &str = "ACTOR_TEST_SEED";

/// The number that decides a test's random choices.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    /// Returns the seed given by `ACTOR_TEST_SEED`, or a new one, and prints how to repeat the run.
    ///
    /// The moments at which the operating system runs things stay its own: a seed repeats the
    /// choices, not the run.
    ///
    /// # Errors
    /// When the variable holds no number.
    #[expect(
        clippy::disallowed_methods,
        reason = "a new seed comes from the system, and is printed"
    )]
    pub fn from_env(test: &str) -> Result<Self> {
        let seed = match env::var(VARIABLE) {
            Ok(text) => text
                .parse()
                .context(format!("{VARIABLE}={text} is not a number"))?,
            Err(_) => fastrand::Rng::new().u64(..),
        };
        println!("seed {seed}; repeat with: {VARIABLE}={seed} cargo test -p actor-tests {test}");
        Ok(Self(seed))
    }

    /// Returns the generator of one part of the test; parts do not disturb each other.
    pub fn rng(self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.0 ^ part.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_seed_draw_different_numbers() {
        let seed = Seed(7);

        let mut draws: Vec<u64> = (0..100).map(|part| seed.rng(part).u64(..)).collect();
        draws.sort_unstable();
        draws.dedup();

        assert_eq!(draws.len(), 100);
    }
}
