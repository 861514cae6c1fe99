//! What replaying a journal decides, case by case.

use super::*;

fn step(position: u32, name: &str, undo: bool) -> Entry {
    Entry::Step {
        position,
        name: name.into(),
        attempts: 1,
        outcome: Outcome::Value(vec![1]),
        undo,
    }
}

fn attempt(position: u32, name: &str, attempt: u32, delay_ms: u64) -> Entry {
    Entry::Attempt {
        position,
        name: name.into(),
        attempt,
        error: Vec::new(),
        delay_ms,
    }
}

fn undone(position: u32, name: &str) -> Entry {
    Entry::Undone {
        position,
        name: name.into(),
        attempts: 1,
    }
}

fn timer(position: u32) -> Entry {
    Entry::Timer {
        position,
        duration_ms: 50,
    }
}

fn fold(entries: impl IntoIterator<Item = Entry>) -> Result<Replay, Corrupt> {
    Replay::fold(entries.into_iter().map(|entry| (entry, Duration::ZERO)))
}

fn folded(entries: impl IntoIterator<Item = Entry>) -> Replay {
    fold(entries).expect("a journal that follows")
}

#[test]
fn a_journaled_step_is_recalled_and_the_next_is_new() {
    let replay = folded([step(0, "charge", false)]);

    let done = Recall::Done(Outcome::Value(vec![1]));
    assert_eq!(replay.recall(0, CommandKind::Step, "charge"), Ok(done));
    assert_eq!(
        replay.recall(1, CommandKind::Step, "charge"),
        Ok(Recall::New)
    );
}

#[test]
fn a_mismatch_names_both_sides() {
    let replay = folded([step(0, "charge", false), timer(1)]);
    let cases = [
        (0, CommandKind::Step, "reserve"),
        (0, CommandKind::Timer, ""),
        (1, CommandKind::Value, "now"),
    ];
    let texts = cases.map(|(position, kind, name)| {
        let mismatch = replay.recall(position, kind, name);
        mismatch.expect_err("they differ").to_string()
    });

    assert_eq!(
        texts,
        [
            "NonDeterministic: at position 0 the journal has step `charge`, the body has step `reserve`",
            "NonDeterministic: at position 0 the journal has step `charge`, the body has a sleep",
            "NonDeterministic: at position 1 the journal has a sleep, the body has value `now`",
        ]
    );
}

#[test]
fn a_body_that_ends_early_is_a_mismatch() {
    let replay = folded([step(0, "charge", false)]);

    assert_eq!(replay.ended_at(1), Ok(()));
    let text = replay.ended_at(0).expect_err("one is left").to_string();
    assert!(text.ends_with("the journal has step `charge`, the body has its end"));
}

#[test]
fn the_pause_before_an_attempt_shrinks_with_the_age_of_its_entry() {
    for (age, left) in [(0, 100), (40, 60), (5000, 0)] {
        let entries = [(attempt(0, "charge", 2, 100), Duration::from_millis(age))];
        let replay = Replay::fold(entries).expect("it follows");

        let again = Recall::Again {
            attempts: 2,
            pause: Duration::from_millis(left),
        };
        assert_eq!(replay.recall(0, CommandKind::Step, "charge"), Ok(again));
    }
}

#[test]
fn a_sleep_is_over_once_anything_follows_it() {
    let asleep = folded([timer(0)]);
    let awake = folded([timer(0), step(1, "charge", false)]);

    let recall = |replay: &Replay| replay.recall(0, CommandKind::Timer, "");
    assert_eq!(recall(&asleep), Ok(Recall::Sleeping));
    assert_eq!(recall(&awake), Ok(Recall::Slept));
}

#[test]
fn steps_are_undone_last_first_and_once() {
    let mut entries = vec![
        step(0, "reserve", true),
        step(1, "look", false),
        step(2, "charge", true),
        Entry::End(Ending::Failed),
    ];
    assert_eq!(folded(entries.clone()).next_undo(), Some(2));

    entries.push(undone(2, "charge"));
    assert_eq!(folded(entries.clone()).next_undo(), Some(0));

    entries.push(undone(0, "reserve"));
    let replay = folded(entries);
    assert_eq!(replay.next_undo(), None);
    assert_eq!(replay.ending(), Some(Ending::Failed));
}

#[test]
fn a_journal_that_no_body_can_have_written_is_corrupt() {
    let cases = [
        vec![step(1, "charge", false)],
        vec![step(0, "charge", false), step(0, "charge", false)],
        vec![attempt(0, "charge", 1, 5), step(0, "reserve", false)],
        vec![attempt(0, "charge", 1, 5), step(1, "reserve", false)],
        vec![step(0, "charge", false), undone(0, "reserve")],
        vec![undone(0, "reserve")],
    ];
    for entries in cases {
        assert!(fold(entries.clone()).is_err(), "{entries:?}");
    }
}

#[test]
fn pausing_and_cancelling_leave_the_positions_alone() {
    let replay = folded([
        step(0, "charge", false),
        Entry::Paused,
        Entry::Resumed,
        Entry::Cancel,
        step(1, "ship", false),
    ]);

    assert!(replay.cancelled());
    assert_eq!(replay.positions().len(), 2);
    assert_eq!(replay.entries(), 5);
}

#[test]
fn entries_are_read_back_as_written() {
    for entry in [
        step(0, "charge", true),
        timer(3),
        Entry::End(Ending::Cancelled),
    ] {
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
}
