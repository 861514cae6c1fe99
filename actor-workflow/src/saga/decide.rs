//! What a run does next: a pure function of what is known of it.

use super::state::State;
use crate::journal::{Ending, Replay};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing, until something changes.
    Rest,
    /// Run the body from the top.
    Body,
    /// Decide that the run is cancelled.
    Cancel,
    /// Undo the step at this position.
    Undo(usize),
    /// End in this way: everything is undone.
    Finish(Ending),
    /// Rest until an operator says otherwise.
    Pause,
}

/// Says whether a run in this state goes on by itself.
pub(crate) fn moves(state: State) -> bool {
    matches!(
        state,
        State::Running | State::Suspended | State::Compensating
    )
}

/// Decides what a run does next. `due` says whether its mailbox row is due.
pub(crate) fn decide(state: State, due: bool, pausing: bool, replay: &Replay) -> Act {
    if !moves(state) {
        return Act::Rest;
    }
    match replay.ending() {
        // Cancelling goes before pausing: it was promised to happen.
        None if replay.cancelled() => Act::Cancel,
        _ if pausing => Act::Pause,
        _ if !due => Act::Rest,
        None => Act::Body,
        Some(ending) => replay.next_undo().map_or(Act::Finish(ending), Act::Undo),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::{Entry, Outcome};

    fn replay(entries: impl IntoIterator<Item = Entry>) -> Replay {
        let entries = entries.into_iter().map(|entry| (entry, Duration::ZERO));
        Replay::fold(entries).expect("a journal that follows")
    }

    fn reserved() -> Entry {
        Entry::Step {
            position: 0,
            name: "reserve".into(),
            attempts: 1,
            outcome: Outcome::Value(Vec::new()),
            undo: true,
        }
    }

    #[test]
    fn a_run_does_what_its_journal_and_its_row_say() {
        let failed = Entry::End(Ending::Failed);
        let undone = Entry::Undone {
            position: 0,
            name: "reserve".into(),
            attempts: 1,
        };
        let table = [
            (State::Running, true, false, vec![], Act::Body),
            (State::Suspended, false, false, vec![], Act::Rest),
            (State::Suspended, true, false, vec![], Act::Body),
            (State::Suspended, false, true, vec![], Act::Pause),
            (
                State::Suspended,
                false,
                false,
                vec![Entry::Cancel],
                Act::Cancel,
            ),
            (State::Running, true, true, vec![Entry::Cancel], Act::Cancel),
            (State::Running, true, false, vec![reserved()], Act::Body),
            (
                State::Compensating,
                true,
                false,
                vec![reserved(), failed.clone()],
                Act::Undo(0),
            ),
            (
                State::Compensating,
                true,
                true,
                vec![reserved(), failed.clone()],
                Act::Pause,
            ),
            (
                State::Compensating,
                true,
                false,
                vec![reserved(), failed, undone],
                Act::Finish(Ending::Failed),
            ),
            (State::Paused, true, false, vec![Entry::Cancel], Act::Rest),
            (State::Stuck, true, true, vec![], Act::Rest),
            (State::Completed, true, true, vec![], Act::Rest),
        ];
        for (state, due, pausing, entries, act) in table {
            let case = format!("{state} {due} {pausing} {entries:?}");
            assert_eq!(decide(state, due, pausing, &replay(entries)), act, "{case}");
        }
    }
}
