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

/// What is known of a run beside its journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) state: State,
    /// Its mailbox row is due.
    pub(crate) due: bool,
    /// Somebody wants it to pause.
    pub(crate) pausing: bool,
    /// There may be something to undo that the journal does not know.
    pub(crate) doubt: bool,
}

/// Decides what a run does next.
pub(crate) fn decide(situation: Situation, replay: &Replay) -> Act {
    let Situation {
        state,
        due,
        pausing,
        doubt,
    } = situation;
    if !moves(state) {
        return Act::Rest;
    }
    match replay.ending() {
        // Cancelling goes before pausing: it was promised to happen.
        // A step that may have been done is done again first, so that it can be undone.
        None if replay.cancelled() && doubt => Act::Body,
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
            let situation = Situation {
                state,
                due,
                pausing,
                doubt: false,
            };
            assert_eq!(decide(situation, &replay(entries)), act, "{case}");
        }
    }

    #[test]
    fn a_cancelled_run_first_finds_out_what_it_may_have_done() {
        let situation = Situation {
            state: State::Running,
            due: true,
            pausing: true,
            doubt: true,
        };

        assert_eq!(decide(situation, &replay([Entry::Cancel])), Act::Body);
        let ended = [reserved(), Entry::Cancel, Entry::End(Ending::Cancelled)];
        let situation = Situation {
            pausing: false,
            ..situation
        };
        assert_eq!(decide(situation, &replay(ended)), Act::Undo(0));
    }
}
