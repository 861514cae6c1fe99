//! Frames: what is written and read at once. A length, then a header, then envelopes.
//!
//! ```text
//! frame:    length u32 | kind u8 | consumed u64 | envelopes
//! envelope: kind u8 | number u64 | time left in ms u32 | length u32 | bytes
//! ```
//! Numbers are big-endian; `length` counts what follows it. `consumed` is how many bytes of the
//! peer's requests were dealt with since the link began. Not here: what an envelope's bytes mean,
//! so one that cannot be read costs only itself.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{LinkEnd, alarm::Alarm};

/// Bytes of a frame before its envelopes, its length left out.
pub(super) const FRAME_HEAD: usize = 9;

/// Bytes of an envelope's head.
pub(super) const ITEM_HEAD: usize = 17;

/// What an envelope is reckoned to hold in memory besides its bytes.
const ITEM_OVERHEAD: usize = 64;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Returns how many bytes of its peer's window an envelope takes up.
pub(super) fn cost(body: usize) -> u64 {
    (body + ITEM_HEAD + ITEM_OVERHEAD) as u64
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Envelopes; none, to say that the sender lives or has consumed something.
    Batch,
    /// The sender takes no more requests.
    Leaving,
    /// The sender is done; nothing follows.
    Close,
}

/// What an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Request,
    Answer,
    Note,
}

/// An envelope as a frame holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    /// Which request it is or answers; 0 for notes.
    pub(super) number: u64,
    /// What is left of the caller's time.
    pub(super) within: Duration,
    pub(super) body: Bytes,
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) consumed: u64,
    pub(super) items: Vec<Item>,
    /// Its size on the wire.
    pub(super) bytes: usize,
}

/// Gathers one frame in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    bytes: Vec<u8>,
}

impl FrameWriter {
    /// Begins a frame.
    pub(super) fn begin(&mut self, kind: FrameKind) {
        self.bytes.clear();
        self.bytes.put_u32(0);
        self.bytes.put_u8(match kind {
            FrameKind::Batch => 0,
            FrameKind::Leaving => 1,
            FrameKind::Close => 2,
        });
        self.bytes.put_u64(0);
    }

    /// Adds an envelope.
    pub(super) fn push(&mut self, kind: ItemKind, number: u64, within: Duration, body: &[u8]) {
        self.bytes.put_u8(match kind {
            ItemKind::Request => 0,
            ItemKind::Answer => 1,
            ItemKind::Note => 2,
        });
        self.bytes.put_u64(number);
        let ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        self.bytes.put_u32(ms);
        let length = u32::try_from(body.len()).expect("an envelope is smaller than a frame");
        self.bytes.put_u32(length);
        self.bytes.put_slice(body);
    }

    /// Returns the size of the frame so far, as its length will say.
    pub(super) fn size(&self) -> usize {
        self.bytes.len().saturating_sub(4)
    }

    /// Ends the frame and returns what to write.
    pub(super) fn finish(&mut self, consumed: u64) -> &[u8] {
        let size = u32::try_from(self.size()).expect("a frame is smaller than its bound");
        self.bytes[..4].copy_from_slice(&size.to_be_bytes());
        self.bytes[5..13].copy_from_slice(&consumed.to_be_bytes());
        &self.bytes
    }

    /// Gives memory back after a frame that was much larger than most.
    pub(super) fn trim(&mut self, to: usize) {
        if self.bytes.capacity() > to {
            self.bytes = Vec::new();
        }
    }
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
    silence: Alarm,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, frame_bytes_max: usize, silence: Duration) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            frame_bytes_max,
            silence: Alarm::new(silence),
        }
    }

    /// Returns the next frame. Cancel safe: what was read so far is kept.
    pub(super) async fn next(&mut self) -> Result<Frame, LinkEnd> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            // Memory grows with what arrives, not with what a length promises.
            self.buffer.reserve(READ_BYTES);
            let read = tokio::select! {
                biased;
                // Cancel safe by tokio's word.
                read = self.stream.read_buf(&mut self.buffer) => read,
                // Cancel safe: it only watches the clock.
                () = self.silence.fired() => return Err(LinkEnd::Silence),
            };
            match read {
                Ok(0) if self.buffer.is_empty() => {
                    return Err(LinkEnd::Cut("the connection ended".into()));
                }
                Ok(0) => {
                    return Err(LinkEnd::Cut("the connection ended inside a frame".into()));
                }
                Ok(_) => self.silence.touch(),
                Err(error) => return Err(LinkEnd::Cut(error.to_string().into())),
            }
        }
    }

    /// Takes a whole frame off the buffer.
    fn take(&mut self) -> Result<Option<Frame>, LinkEnd> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length < FRAME_HEAD || length > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            let text = format!("a frame of {length} bytes, accepted are {FRAME_HEAD} to {max}");
            return Err(LinkEnd::Garbage(text.into()));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = parse(self.buffer.split_to(length).freeze());
        frame.map(Some).map_err(|why| LinkEnd::Garbage(why.into()))
    }
}

/// Reads what follows a frame's length.
fn parse(mut rest: Bytes) -> Result<Frame, &'static str> {
    let bytes = rest.len() + 4;
    if rest.len() < FRAME_HEAD {
        return Err("a frame is too short");
    }
    let kind = match rest.get_u8() {
        0 => FrameKind::Batch,
        1 => FrameKind::Leaving,
        2 => FrameKind::Close,
        _ => return Err("a frame of an unknown kind"),
    };
    let consumed = rest.get_u64();
    if kind != FrameKind::Batch && !rest.is_empty() {
        return Err("envelopes where none belong");
    }
    let mut items = Vec::with_capacity(count(&rest));
    while !rest.is_empty() {
        if rest.len() < ITEM_HEAD {
            return Err("an envelope's head is cut short");
        }
        let kind = match rest.get_u8() {
            0 => ItemKind::Request,
            1 => ItemKind::Answer,
            2 => ItemKind::Note,
            _ => return Err("an envelope of an unknown kind"),
        };
        let number = rest.get_u64();
        let within = Duration::from_millis(rest.get_u32().into());
        let length = rest.get_u32() as usize;
        if length > rest.len() {
            return Err("an envelope is cut short");
        }
        items.push(Item {
            kind,
            number,
            within,
            body: rest.split_to(length),
        });
    }
    Ok(Frame {
        kind,
        consumed,
        items,
        bytes,
    })
}

/// Returns how many envelopes there are, as far as their heads make sense: growing a list by steps
/// would copy it several times.
fn count(mut rest: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, after)) = rest.split_first_chunk::<ITEM_HEAD>() {
        let [.., a, b, c, d] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(next) = after.get(length..) else {
            break;
        };
        (rest, count) = (next, count + 1);
    }
    count
}

#[cfg(test)]
mod tests;
