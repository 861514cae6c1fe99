//! Journals in bytes: whatever stands in one, it is read, refused or found corrupt.

use std::time::Duration;

use actor_core::clock::Rng;
use actor_tests::corpus::spoiled;
use actor_workflow::journal::{CommandKind, Ending, Entry, Outcome, Replay};

/// One of each kind of entry.
fn entries() -> Vec<Entry> {
    let step = |position, outcome| Entry::Step {
        position,
        name: "charge card".into(),
        attempts: 2,
        outcome,
        undo: true,
    };
    vec![
        Entry::Attempt {
            position: 0,
            name: "charge card".into(),
            attempt: 1,
            error: vec![0x80],
            delay_ms: u64::MAX,
        },
        step(0, Outcome::Value(vec![1, 2, 3])),
        step(1, Outcome::Failure(vec![0x80])),
        Entry::Timer {
            position: 2,
            duration_ms: 250,
        },
        Entry::Value {
            position: 3,
            name: "random".into(),
            value: vec![0xcf; 9],
        },
        Entry::Paused,
        Entry::Resumed,
        Entry::Cancel,
        Entry::End(Ending::Cancelled),
        Entry::Undone {
            position: 0,
            name: "charge card".into(),
            attempts: 1,
        },
    ]
}

#[test]
fn any_bytes_of_an_entry_are_read_or_refused() {
    let rng = Rng::seeded(47);
    let (mut read, mut refused) = (0, 0);
    for entry in entries() {
        let valid = entry.encode();
        assert_eq!(Entry::decode(&valid).as_ref(), Ok(&entry));
        for _ in 0..5_000 {
            match Entry::decode(&spoiled(&rng, &valid)) {
                Ok(entry) => {
                    read += 1;
                    assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(read > 1_000 && refused > 10_000, "{read} {refused}");
}

/// Entries that can be read one by one need not make a journal: folding them never panics, and what
/// it accepts answers whatever a body asks.
#[test]
fn any_entries_fold_into_a_journal_or_are_found_corrupt() {
    let rng = Rng::seeded(53);
    let (mut folded, mut corrupt) = (0, 0);
    for _ in 0..20_000 {
        let mut journal = entries();
        for _ in 0..=rng.below(2) {
            let at = rng.below(journal.len() as u64) as usize;
            match rng.below(4) {
                0 => drop(journal.remove(at)),
                1 => journal.truncate(at.max(1)),
                2 => journal.swap(0, at),
                _ => {
                    let bytes = spoiled(&rng, &journal[at].encode());
                    if let Ok(entry) = Entry::decode(&bytes) {
                        journal[at] = entry;
                    }
                }
            }
        }
        let aged = journal
            .into_iter()
            .map(|entry| (entry, Duration::from_millis(rng.below(500))));
        match Replay::fold(aged) {
            Ok(replay) => {
                folded += 1;
                for position in 0..6 {
                    drop(replay.recall(position, CommandKind::Step, "charge card"));
                    drop(replay.recall(position, CommandKind::Timer, ""));
                }
            }
            Err(why) => {
                corrupt += 1;
                assert!(!why.to_string().is_empty());
            }
        }
    }
    assert!(folded > 1_000 && corrupt > 1_000, "{folded} {corrupt}");
}
