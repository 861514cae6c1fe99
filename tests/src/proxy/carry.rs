//! Carries the bytes of one connection, and does to them what the proxy was told.

use std::sync::{Arc, Mutex, atomic::Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::{End, Fate, Fates, Shared, Then, Trap, Way, lock};
use crate::deadline::Deadline;

/// How many of a connection's first bytes tell it from others.
const HEAD_BYTES: usize = 1024;

/// One connection, as both of its ways see it.
struct Line {
    shared: Arc<Shared>,
    /// What it said first.
    head: Mutex<Vec<u8>>,
    /// Says that no answer goes down any more.
    muted: watch::Sender<bool>,
    /// How both ways are to end, once they are.
    over: watch::Sender<Option<End>>,
}

/// Carries one connection until it ends, or is ended.
pub(super) async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let mut ends = shared.ends.subscribe();
    ends.mark_unchanged();
    let target = *lock(&shared.target);
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let line = Arc::new(Line {
        shared,
        head: Mutex::default(),
        muted: watch::Sender::new(false),
        over: watch::Sender::new(None),
    });
    let up = tokio::spawn(copy(near_read, far_write, Way::Up, line.clone()));
    let down = tokio::spawn(copy(far_read, near_write, Way::Down, line.clone()));
    let mut both = std::pin::pin!(async { (up.await, down.await) });
    // The proxy may be gone; then its connections end, too.
    tokio::select! {
        biased;
        _ = &mut both => {}
        _ = ends.changed() => {
            let how = ends.borrow().1;
            line.over.send_replace(Some(how));
            let _ = both.await;
        }
    }
    line.shared.open.fetch_sub(1, Ordering::SeqCst);
}

/// Carries one way until it ends, or both are ended.
async fn copy(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf, way: Way, line: Arc<Line>) {
    let mut over = line.over.subscribe();
    tokio::select! {
        biased;
        _ = over.wait_for(Option::is_some) => {}
        () = line.pump(&mut reader, &mut writer, way) => {}
    }
    if *line.over.borrow() == Some(End::Reset) && writer.as_ref().set_zero_linger().is_ok() {
        // An end in order must not go ahead of the reset.
        writer.forget();
        return;
    }
    let _ = writer.shutdown().await;
}

impl Line {
    /// Moves bytes until their sender ends, nobody takes them, or a trap ends the connection.
    async fn pump(&self, reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf, way: Way) {
        let mut fates = self.shared.fates.subscribe();
        let mut released = self.shared.released.subscribe();
        let mut piece = vec![0; 64 * 1024];
        let (mut cut, mut frozen) = (false, false);
        while let Ok(count @ 1..) = reader.read(&mut piece).await {
            let bytes = &piece[..count];
            self.hears(way, bytes);
            released.mark_unchanged();
            match (way == Way::Up).then(|| self.sprung(bytes)).flatten() {
                None => {}
                Some(Then::Freeze) => frozen = true,
                Some(Then::Vanish) => {
                    frozen = true;
                    self.muted.send_replace(true);
                }
                // The sender lives as long as this line.
                Some(Then::Hold) => drop(released.changed().await),
                Some(then) => return self.spring(then, bytes, writer).await,
            }
            let fate = match frozen || way == Way::Down && *self.muted.borrow() {
                true => Fate::Swallow,
                false => self.fate(way, &mut fates).await,
            };
            match fate {
                Fate::Pass | Fate::Hold => {}
                Fate::Delay(time) => Deadline::after(time).wait().await,
                Fate::Swallow => continue,
                Fate::Cut => {
                    if !std::mem::replace(&mut cut, true) {
                        let _ = writer.shutdown().await;
                    }
                    continue;
                }
            }
            if writer.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    /// Remembers what the connection said first.
    fn hears(&self, way: Way, bytes: &[u8]) {
        let mut head = lock(&self.head);
        if way == Way::Up && head.len() < HEAD_BYTES {
            head.extend(bytes.iter().take(HEAD_BYTES));
        }
    }

    /// Returns what becomes of bytes, once they are not held any more.
    async fn fate(&self, way: Way, fates: &mut watch::Receiver<Fates>) -> Fate {
        loop {
            let fate = self.fate_now(way, &fates.borrow_and_update());
            // The sender lives as long as this line.
            if fate != Fate::Hold || fates.changed().await.is_err() {
                return fate;
            }
        }
    }

    fn fate_now(&self, way: Way, fates: &Fates) -> Fate {
        let said = |(said, _): &&(Vec<u8>, Fate)| contains(&lock(&self.head), said);
        match (fates.of.iter().rev().find(said), way) {
            (Some((_, fate)), _) => *fate,
            (None, Way::Up) => fates.up,
            (None, Way::Down) => fates.down,
        }
    }

    /// Takes the trap out if `bytes` spring it; returns what it does.
    fn sprung(&self, bytes: &[u8]) -> Option<Then> {
        let mut trap = lock(&self.shared.trap);
        let springs =
            |trap: &mut Trap| contains(bytes, &trap.bytes) && contains(&lock(&self.head), &trap.of);
        let then = trap.take_if(springs)?.then;
        self.shared.trapped.send_modify(|count| *count += 1);
        Some(then)
    }

    /// Ends the connection as a trap wants it.
    async fn spring(&self, then: Then, bytes: &[u8], writer: &mut OwnedWriteHalf) {
        let (arrives, end) = match then {
            Then::CloseAfter => (bytes, End::Close),
            Then::CutInside => (&bytes[..bytes.len() / 2], End::Reset),
            _ => (&bytes[..0], End::Close),
        };
        self.muted.send_replace(true);
        // The receiver acts on what it read before it sees the end.
        let _ = writer.write_all(arrives).await;
        if end == End::Close {
            let _ = writer.shutdown().await;
        }
        self.over.send_replace(Some(end));
    }
}

/// Says whether `bytes` contain `wanted`; everything contains nothing.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}
