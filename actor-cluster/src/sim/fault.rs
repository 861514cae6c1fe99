//! What can go wrong with a node's store calls, planned by the test.

use std::time::Duration;

use actor_core::clock::Rng;

/// A fault of a node's store calls. By default it hits the next call, once.
///
/// ```
/// use actor_cluster::sim::Fault;
/// use std::time::Duration;
///
/// let once = Fault::fail_after();
/// let third_commit = Fault::crash_before().only("commit").skip(2);
/// let bad_disk = Fault::slow(Duration::from_millis(300)).chance(10).until_cleared();
/// # drop((once, third_commit, bad_disk));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a fault does nothing until it is given to `Sim::fault`"]
pub struct Fault {
    effect: Effect,
    label: Option<&'static str>,
    skip: u64,
    times: Option<u64>,
    chance: u64,
}

/// What becomes of a store call that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    FailBefore,
    FailAfter,
    Late(Duration),
    Slow(Duration),
    SlowAnswer(Duration),
    Hang,
    CrashBefore,
    CrashAfter,
}

impl Fault {
    /// The call fails and certainly changed nothing.
    pub fn fail_before() -> Self {
        Self::of(Effect::FailBefore)
    }

    /// The call is done, but its answer is lost: nobody knows whether it was stored.
    pub fn fail_after() -> Self {
        Self::of(Effect::FailAfter)
    }

    /// The answer is lost at once, and the call is done this much later, unless its node is dead by
    /// then: what an unclear commit does that is still on its way when its connection breaks.
    pub fn late(by: Duration) -> Self {
        Self::of(Effect::Late(by))
    }

    /// The call reaches the database this much later.
    pub fn slow(by: Duration) -> Self {
        Self::of(Effect::Slow(by))
    }

    /// The call is done in time, and its answer comes this much later.
    pub fn slow_answer(by: Duration) -> Self {
        Self::of(Effect::SlowAnswer(by))
    }

    /// The call is never made, and nobody says so: after 6 s its caller gives up and cannot know.
    pub fn hang() -> Self {
        Self::of(Effect::Hang)
    }

    /// The node crashes instead of making the call, and starts again after about a second.
    pub fn crash_before() -> Self {
        Self::of(Effect::CrashBefore)
    }

    /// The node crashes when the call is done, before anybody learns of it, and starts again after
    /// about a second.
    pub fn crash_after() -> Self {
        Self::of(Effect::CrashAfter)
    }

    /// Hits only calls with this label, as it stands in the trace: `commit` for what entities
    /// store.
    pub fn only(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Lets this many calls pass first.
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Hits this many calls.
    pub fn times(mut self, calls: u64) -> Self {
        self.times = Some(calls);
        self
    }

    /// Hits calls until [`Sim::clear_faults`](super::Sim::clear_faults).
    pub fn until_cleared(mut self) -> Self {
        self.times = None;
        self
    }

    /// Hits each call it could hit with this probability, in percent.
    pub fn chance(mut self, percent: u64) -> Self {
        self.chance = percent;
        self
    }

    fn of(effect: Effect) -> Self {
        Self {
            effect,
            label: None,
            skip: 0,
            times: Some(1),
            chance: 100,
        }
    }

    /// Decides about one call; counts it.
    fn hit(&mut self, label: &str, rng: &Rng) -> Option<Effect> {
        if self.label.is_some_and(|only| only != label) || self.times == Some(0) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.chance < 100 && rng.below(100) >= self.chance {
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.effect)
    }
}

/// Returns what becomes of one call: the first fault that hits it decides.
pub(super) fn strike(faults: &mut Vec<Fault>, label: &str, rng: &Rng) -> Option<Effect> {
    let effect = faults.iter_mut().find_map(|fault| fault.hit(label, rng));
    faults.retain(|fault| fault.times != Some(0));
    effect
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(fault: Fault, labels: &[&str]) -> Vec<bool> {
        let (mut faults, rng) = (vec![fault], Rng::seeded(1));
        labels
            .iter()
            .map(|label| strike(&mut faults, label, &rng).is_some())
            .collect()
    }

    #[test]
    fn a_fault_hits_the_calls_it_was_planned_for() {
        let table = [
            (Fault::hang(), vec![true, false, false, false]),
            (Fault::hang().times(2), vec![true, true, false, false]),
            (Fault::hang().skip(1), vec![false, true, false, false]),
            (Fault::hang().until_cleared(), vec![true, true, true, true]),
            (Fault::hang().only("b"), vec![false, true, false, false]),
            (
                Fault::hang().only("b").skip(1),
                vec![false, false, false, true],
            ),
            (
                Fault::hang().chance(0).until_cleared(),
                vec![false, false, false, false],
            ),
        ];
        for (fault, expected) in table {
            assert_eq!(
                struck(fault.clone(), &["a", "b", "a", "b"]),
                expected,
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_spent_fault_is_forgotten() {
        let (mut faults, rng) = (vec![Fault::hang(), Fault::fail_before()], Rng::seeded(1));

        assert_eq!(strike(&mut faults, "a", &rng), Some(Effect::Hang));
        assert_eq!(strike(&mut faults, "a", &rng), Some(Effect::FailBefore));
        assert!(faults.is_empty());
    }
}
