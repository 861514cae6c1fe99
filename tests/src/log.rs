//! What a program printed: kept, awaited, and shown when a test fails.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::watch,
};

use crate::{Deadline, Failure, Result};

/// Lines kept of one program; older ones are dropped.
const LINES_KEPT: usize = 20_000;

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The lines of one program. Clones share them.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Arc<Mutex<VecDeque<(Stream, String)>>>,
    /// Streams that are still open; touched on every line, so that waiters look again.
    open: watch::Sender<usize>,
}

impl Log {
    /// Returns an empty log that `streams` streams will write to.
    pub fn new(streams: usize) -> Self {
        Self {
            lines: Arc::default(),
            open: watch::Sender::new(streams),
        }
    }

    /// Reads `source` to its end. The caller owns the future and aborts it with the program.
    pub async fn read(self, stream: Stream, source: impl AsyncRead + Unpin) {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        while matches!(source.read_until(b'\n', &mut bytes).await, Ok(read) if read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            self.push(stream, line);
            self.open.send_modify(|_| {});
        }
        self.open.send_modify(|open| *open -= 1);
    }

    /// Waits for the first line of which `pick` returns something.
    ///
    /// # Errors
    /// When the program closed its streams or the deadline came first; the failure shows the last
    /// lines.
    pub async fn find<T>(
        &self,
        what: &str,
        deadline: Deadline,
        pick: impl Fn(Stream, &str) -> Option<T>,
    ) -> Result<T> {
        let mut open = self.open.subscribe();
        loop {
            let ended = *open.borrow_and_update() == 0;
            let found = self.locked(|lines| lines.iter().find_map(|(s, line)| pick(*s, line)));
            if let Some(found) = found {
                return Ok(found);
            }
            let why = match ended {
                true => "the program ended",
                false if deadline.limit(what, open.changed()).await.is_ok() => continue,
                false => "the deadline came",
            };
            return Err(Failure::new(format!(
                "{what}: {why} first\n{}",
                self.tail(30)
            )));
        }
    }

    /// Waits until every stream is at its end.
    ///
    /// # Errors
    /// When the deadline came first.
    pub async fn closed(&self, deadline: Deadline) -> Result<()> {
        let mut open = self.open.subscribe();
        let closed = open.wait_for(|open| *open == 0);
        deadline
            .limit("the end of the program's output", closed)
            .await?
            .map(|_| ())?;
        Ok(())
    }

    /// Returns the lines of one stream.
    pub fn lines(&self, of: Stream) -> Vec<String> {
        self.locked(|lines| {
            lines
                .iter()
                .filter(|(stream, _)| *stream == of)
                .map(|(_, line)| line.clone())
                .collect()
        })
    }

    /// Returns the last `count` lines of both streams as one text.
    pub fn tail(&self, count: usize) -> String {
        self.locked(|lines| {
            let skipped = lines.len().saturating_sub(count);
            let shown = lines
                .iter()
                .skip(skipped)
                .map(|(_, line)| format!("  | {line}\n"));
            shown.collect()
        })
    }

    fn push(&self, stream: Stream, line: String) {
        self.locked(|lines| {
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back((stream, line));
        });
    }

    fn locked<T>(&self, look: impl FnOnce(&mut VecDeque<(Stream, String)>) -> T) -> T {
        look(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_found_whether_it_was_printed_before_or_after_the_wait_began() {
        let log = Log::new(1);
        let is = |text: &'static str| move |_, line: &str| (line == text).then_some(());
        let (mut printer, source) = tokio::io::duplex(64);
        let reading = tokio::spawn(log.clone().read(Stream::Out, source));

        tokio::io::AsyncWriteExt::write_all(&mut printer, b"one\n")
            .await
            .unwrap();
        log.find("one", Deadline::seconds(5), is("one"))
            .await
            .unwrap();
        let second = log.find("two", Deadline::seconds(5), is("two"));
        tokio::io::AsyncWriteExt::write_all(&mut printer, b"two\n")
            .await
            .unwrap();
        second.await.unwrap();
        drop(printer);
        reading.await.unwrap();

        assert_eq!(log.lines(Stream::Out), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_wait_for_a_line_ends_when_the_program_ends_and_shows_what_it_said() {
        let log = Log::new(1);

        log.clone()
            .read(Stream::Err, &b"cannot open shop.db\n"[..])
            .await;
        let found = log
            .find("its address", Deadline::seconds(5), |_, _| None::<()>)
            .await;

        let failure = found.unwrap_err().to_string();
        assert!(
            failure.contains("its address: the program ended first"),
            "{failure}"
        );
        assert!(failure.contains("cannot open shop.db"), "{failure}");
    }
}
