//! What happened, line by line: hashed as a whole, the last lines kept for whoever must read them.
//!
//! Lines name nodes and entities, never actor ids: those are counted for the whole test program.

use std::{
    collections::VecDeque,
    env, fmt,
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;
use xxhash_rust::xxh3::Xxh3Default;

/// Names the variable that holds the path of a file for the whole trace, with logs; each seed
/// begins it anew.
pub(super) const FILE: &str = "ACTOR_SIM_TRACE";

/// Lines that are kept.
const LINES_KEPT: usize = 200;

/// The trace of one simulation. Cheap to clone.
#[derive(Clone)]
pub(super) struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hash: Xxh3Default,
    lines: u64,
    last: VecDeque<String>,
    /// Where all of it goes, if somebody asked for it.
    file: Option<File>,
}

impl Trace {
    pub(super) fn new() -> Self {
        let inner = Inner {
            hash: Xxh3Default::new(),
            lines: 0,
            last: VecDeque::new(),
            file: env::var_os(FILE).map(|path| {
                File::create(&path).unwrap_or_else(|error| panic!("{FILE} is {path:?}: {error}"))
            }),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Adds a line.
    pub(super) fn add(&self, at: Duration, line: fmt::Arguments<'_>) {
        let line = format!("{:>10.3} {line}", at.as_secs_f64());
        let mut inner = self.lock();
        inner.hash.update(line.as_bytes());
        inner.hash.update(b"\n");
        inner.lines += 1;
        inner.keep(line);
    }

    /// Returns a number that two runs share only if all their lines were the same.
    pub(super) fn hash(&self) -> u64 {
        self.lock().hash.digest()
    }

    /// Returns how many lines there were, and the last `most` of them.
    pub(super) fn last(&self, most: usize) -> (u64, Vec<String>) {
        let inner = self.lock();
        let skipped = inner.last.len().saturating_sub(most);
        (
            inner.lines,
            inner.last.iter().skip(skipped).cloned().collect(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, line: String) {
        if let Some(file) = &mut self.file {
            // Nobody waits for it; what is missing shows.
            let _ = writeln!(file, "{line}");
        }
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} lines)", self.lock().lines)
    }
}

/// Logs of nodes are shown between the lines but not hashed: their wording may change.
impl<'w> MakeWriter<'w> for Trace {
    type Writer = LogLine;

    fn make_writer(&'w self) -> LogLine {
        LogLine(self.clone())
    }
}

/// Writes one log line into the trace.
pub(super) struct LogLine(Trace);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0
            .lock()
            .keep(format!("           | {}", text.trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_times_and_lines_in_their_order() {
        let hash = |lines: &[(u64, &str)]| {
            let trace = Trace::new();
            for (ms, line) in lines {
                trace.add(Duration::from_millis(*ms), format_args!("{line}"));
            }
            trace.hash()
        };

        assert_eq!(hash(&[(1, "a"), (2, "b")]), hash(&[(1, "a"), (2, "b")]));
        assert_ne!(hash(&[(1, "a"), (2, "b")]), hash(&[(2, "b"), (1, "a")]));
        assert_ne!(hash(&[(1, "a")]), hash(&[(2, "a")]));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let trace = Trace::new();
        for number in 0..1000 {
            trace.add(Duration::ZERO, format_args!("{number}"));
        }

        let (lines, last) = trace.last(2);

        assert_eq!(lines, 1000);
        assert!(
            last[0].ends_with("998") && last[1].ends_with("999"),
            "{last:?}"
        );
    }
}
