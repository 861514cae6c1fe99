//! Replay: a journal folded into what the body is told at each position.
//!
//! The body runs again from the top; at each position it says what it wants, and [`Replay::recall`]
//! answers from the journal, or says that the body and the journal disagree.

use std::{fmt, time::Duration};

use super::{Ending, Entry, Outcome};

/// What a body can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// A step.
    Step,
    /// A durable sleep.
    Timer,
    /// A value from outside.
    Value,
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Timer => "sleep",
            Self::Value => "value",
        })
    }
}

/// How far a position came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step failed and is to be tried again.
    Trying {
        /// What is left of the pause before the next attempt.
        pause: Duration,
    },
    /// A sleep began and what follows it did not.
    Sleeping {
        /// What was left of it when its entry was read.
        left: Duration,
    },
    /// It ended with this.
    Done(Outcome),
    /// A sleep ended.
    Slept,
}

/// What the journal knows of one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What the body asked for.
    pub kind: CommandKind,
    /// The name it gave; empty for a sleep.
    pub name: String,
    /// How far it came.
    pub progress: Progress,
    /// Attempts made at a step.
    pub attempts: u32,
    /// Whether it must be undone if the run fails or is cancelled, and was not yet.
    pub undo: bool,
}

/// A run's journal, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    positions: Vec<Recorded>,
    entries: usize,
    bytes: usize,
    cancelled: bool,
    /// The last that happened is that an operator paused the run.
    paused: bool,
    ending: Option<Ending>,
}

/// The journal's answer to what the body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Nothing is known: do it.
    New,
    /// The step failed before: try again.
    Again {
        /// Attempts made.
        attempts: u32,
        /// What is left of the pause.
        pause: Duration,
    },
    /// A sleep began; only its mailbox row says whether it is over.
    Sleeping,
    /// A sleep is over.
    Slept,
    /// It ended with this.
    Done(Outcome),
}

/// The body and the journal disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    position: usize,
    journal: String,
    body: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            journal,
            body,
        } = self;
        write!(
            f,
            "NonDeterministic: at position {position} the journal has {journal}, the body has {body}"
        )
    }
}

/// A journal that no body can have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt(String);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal is corrupt: {}", self.0)
    }
}

impl Replay {
    /// Folds stored entries; each comes with the time since it was stored.
    ///
    /// # Errors
    /// When the entries do not follow from one another.
    pub fn fold(entries: impl IntoIterator<Item = (Entry, Duration)>) -> Result<Self, Corrupt> {
        let mut replay = Self::default();
        for (entry, age) in entries {
            replay.push(entry, age)?;
        }
        Ok(replay)
    }

    /// Adds an entry that was stored `age` ago.
    ///
    /// # Errors
    /// When it does not follow from the others; the replay must not be used any more then.
    pub fn push(&mut self, entry: Entry, age: Duration) -> Result<(), Corrupt> {
        self.entries += 1;
        self.bytes += entry.bytes();
        self.paused = match entry {
            Entry::Cancel => self.paused,
            _ => matches!(entry, Entry::Paused),
        };
        match entry {
            Entry::Attempt {
                position,
                name,
                attempt,
                delay_ms,
                ..
            } => {
                let pause = Duration::from_millis(delay_ms).saturating_sub(age);
                let recorded = self.at(position, CommandKind::Step, name)?;
                recorded.progress = Progress::Trying { pause };
                recorded.attempts = attempt;
            }
            Entry::Step {
                position,
                name,
                attempts,
                outcome,
                undo,
            } => {
                let recorded = self.at(position, CommandKind::Step, name)?;
                recorded.progress = Progress::Done(outcome);
                (recorded.attempts, recorded.undo) = (attempts, undo);
            }
            Entry::Timer {
                position,
                duration_ms,
            } => {
                let left = Duration::from_millis(duration_ms).saturating_sub(age);
                self.at(position, CommandKind::Timer, String::new())?
                    .progress = Progress::Sleeping { left };
            }
            Entry::Value {
                position,
                name,
                value,
            } => {
                self.at(position, CommandKind::Value, name)?.progress =
                    Progress::Done(Outcome::Value(value));
            }
            Entry::Cancel => self.cancelled = true,
            Entry::End(ending) => self.ending = Some(ending),
            Entry::Undone { position, name, .. } => {
                let recorded = self.positions.get_mut(position as usize);
                let recorded = recorded.filter(|recorded| recorded.name == name);
                recorded
                    .ok_or_else(|| Corrupt(format!("`{name}` was undone but never done")))?
                    .undo = false;
            }
            Entry::Paused | Entry::Resumed => {}
        }
        Ok(())
    }

    /// Returns the record of `position`, which is the last one or the one after it.
    fn at(
        &mut self,
        position: u32,
        kind: CommandKind,
        name: String,
    ) -> Result<&mut Recorded, Corrupt> {
        let (index, known) = (position as usize, self.positions.len());
        if index + 1 == known {
            let last = &self.positions[index];
            let open = matches!(last.progress, Progress::Trying { .. });
            if !open || last.kind != kind || last.name != name {
                return Err(Corrupt(format!(
                    "position {position} is {kind} `{name}` after it was {} `{}`",
                    last.kind, last.name
                )));
            }
        } else if index == known {
            // Whatever follows a sleep was asked for after it.
            if let Some(last) = self.positions.last_mut() {
                match last.progress {
                    Progress::Sleeping { .. } => last.progress = Progress::Slept,
                    Progress::Trying { .. } => {
                        return Err(Corrupt(format!("`{}` never ended", last.name)));
                    }
                    Progress::Done(_) | Progress::Slept => {}
                }
            }
            self.positions.push(Recorded {
                kind,
                name,
                progress: Progress::Trying {
                    pause: Duration::ZERO,
                },
                attempts: 0,
                undo: false,
            });
        } else {
            return Err(Corrupt(format!(
                "position {position} follows {known} others"
            )));
        }
        Ok(&mut self.positions[index])
    }

    /// Answers what the body asks for at `position`.
    ///
    /// # Errors
    /// [`Mismatch`] when the journal has something else there.
    pub fn recall(
        &self,
        position: usize,
        kind: CommandKind,
        name: &str,
    ) -> Result<Recall, Mismatch> {
        let Some(recorded) = self.positions.get(position) else {
            return Ok(Recall::New);
        };
        if recorded.kind != kind || recorded.name != name {
            return Err(Mismatch {
                position,
                journal: described(recorded.kind, &recorded.name),
                body: described(kind, name),
            });
        }
        Ok(match &recorded.progress {
            Progress::Trying { pause } => Recall::Again {
                attempts: recorded.attempts,
                pause: *pause,
            },
            Progress::Sleeping { .. } => Recall::Sleeping,
            Progress::Slept => Recall::Slept,
            Progress::Done(outcome) => Recall::Done(outcome.clone()),
        })
    }

    /// Checks that a body which ended at `position` asked for everything the journal has.
    ///
    /// # Errors
    /// [`Mismatch`] when the journal goes on.
    pub fn ended_at(&self, position: usize) -> Result<(), Mismatch> {
        match self.positions.get(position) {
            None => Ok(()),
            Some(recorded) => Err(Mismatch {
                position,
                journal: described(recorded.kind, &recorded.name),
                body: "its end".to_owned(),
            }),
        }
    }

    /// Returns the mismatch of a step whose undoing the journal expects and the body lacks.
    pub fn undo_missing(&self, position: usize) -> Mismatch {
        let recorded = self.positions.get(position);
        let name = recorded.map_or("", |recorded| &recorded.name);
        Mismatch {
            position,
            journal: format!("step `{name}` with a compensation"),
            body: "it without".to_owned(),
        }
    }

    /// Returns the position to undo next: the last one that must be and was not.
    pub fn next_undo(&self) -> Option<usize> {
        self.positions.iter().rposition(|recorded| recorded.undo)
    }

    /// Returns how the run ends, once that is decided.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Says whether somebody asked to cancel the run.
    pub fn cancelled(&self) -> bool {
        self.cancelled
    }

    /// Says whether no step can have begun since the last entry: the run sleeps or is paused.
    pub fn is_settled(&self) -> bool {
        let last = self.positions.last().map(|last| &last.progress);
        let sleeps = matches!(last, Some(Progress::Sleeping { left }) if !left.is_zero());
        self.paused || sleeps
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns about how many bytes the entries take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what is known of each position, in order.
    pub fn positions(&self) -> &[Recorded] {
        &self.positions
    }
}

fn described(kind: CommandKind, name: &str) -> String {
    if name.is_empty() {
        format!("a {kind}")
    } else {
        format!("{kind} `{name}`")
    }
}

#[cfg(test)]
mod tests;
