//! One connection to a peer that this node dialled: writes requests and notes, reads answers.
//!
//! Not here: when it is dialled (`dialler`), and what waits (`outbox`).

use std::{sync::Arc, time::Duration};

use actor_core::clock::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, split},
    sync::watch,
};

use super::{
    LinkEnd,
    alarm::{Alarm, within},
    config::LinkConfig,
    frame::{FrameKind, FrameReader, FrameWriter, ItemKind},
    meter::Meter,
    outbox::{Outbox, Phase},
};

/// A connection that is up.
pub(super) struct Dialled<S> {
    pub(super) stream: S,
    pub(super) outbox: Arc<Outbox>,
    pub(super) meter: Arc<Meter>,
    pub(super) config: Arc<LinkConfig>,
    /// Becomes true when this node wants to end the link.
    pub(super) ending: watch::Receiver<bool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialled<S> {
    /// Moves envelopes until the link ends; then every request of it has ended too.
    pub(super) async fn run(self, on_leaving: impl Fn()) -> LinkEnd {
        let Self {
            stream,
            outbox,
            meter,
            config,
            mut ending,
        } = self;
        let ending_all = EndGuard(&outbox);
        let (read_half, mut write_half) = split(stream);
        let reader = FrameReader::new(read_half, config.frame_bytes_max, config.silence);
        let close = async {
            if ending.wait_for(|ending| *ending).await.is_ok() {
                outbox.close();
                Clock.sleep(config.close_timeout).await;
            }
            LinkEnd::Local
        };
        // Whichever ends first ends the link, so nothing that the others were doing matters.
        let why = tokio::select! {
            biased;
            why = read(reader, &outbox, &meter, on_leaving) => why,
            why = write(&mut write_half, &outbox, &meter, &config) => why,
            why = close => why,
            () = outbox.watch() => LinkEnd::Local, // It never ends.
        };
        ending_all.0.end(&why);
        why
    }
}

/// Ends every request when the link's task is dropped or panics: nobody waits for a link that no
/// longer is. After an end with a reason it finds nothing to do.
struct EndGuard<'a>(&'a Outbox);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.end(&"the link was dropped");
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    outbox: &Outbox,
    meter: &Meter,
    on_leaving: impl Fn(),
) -> LinkEnd {
    loop {
        let frame = match reader.next().await {
            Ok(frame) => frame,
            // After its last word, the end of the connection is in order.
            Err(LinkEnd::Cut(_)) if outbox.phase() == (Phase::Leaving, true) => {
                return LinkEnd::Orderly;
            }
            Err(why) => return why,
        };
        meter.read(frame.bytes, frame.items.len());
        if let Err(why) = outbox.settle(frame.consumed) {
            return LinkEnd::Garbage(why.into());
        }
        match frame.kind {
            FrameKind::Batch => {}
            FrameKind::Leaving => {
                outbox.leave();
                on_leaving();
            }
            FrameKind::Close => return LinkEnd::Garbage("it closed what it did not open".into()),
        }
        if frame.items.iter().any(|item| item.kind != ItemKind::Answer) {
            return LinkEnd::Garbage("it asks on a link that it did not dial".into());
        }
        let answers = frame.items.into_iter();
        outbox.answered(answers.map(|item| (item.number, item.body)));
    }
}

async fn write<W: AsyncWrite + Unpin>(
    stream: &mut W,
    outbox: &Outbox,
    meter: &Meter,
    config: &LinkConfig,
) -> LinkEnd {
    let mut frame = FrameWriter::default();
    let mut heartbeat = Alarm::new(config.heartbeat);
    loop {
        let count = outbox.form(&mut frame);
        if count == 0 {
            if let (phase @ (Phase::Closing | Phase::Leaving), true) = outbox.phase() {
                frame.begin(FrameKind::Close);
                let last = put(stream, frame.finish(0), config.stall).await;
                return match (last, phase) {
                    (Err(why), _) => why,
                    (Ok(()), Phase::Leaving) => LinkEnd::Orderly,
                    (Ok(()), _) => LinkEnd::Local,
                };
            }
            tokio::select! {
                biased;
                // Cancel safe: a wake-up that comes meanwhile is kept.
                () = outbox.wake.notified() => {
                    // Whoever else is about to send gets into the same frame.
                    tokio::task::yield_now().await;
                    continue;
                }
                // Cancel safe: it only watches the clock. The empty frame is a sign of life.
                () = heartbeat.fired() => {}
            }
        }
        let bytes = frame.finish(0);
        if let Err(why) = put(stream, bytes, config.stall).await {
            return why;
        }
        meter.wrote(bytes.len(), count);
        heartbeat.touch();
        frame.trim(2 * config.batch_bytes);
    }
}

/// Writes a frame; a peer that does not take it within `stall` loses the link.
pub(super) async fn put<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &[u8],
    stall: Duration,
) -> Result<(), LinkEnd> {
    let written = within(stall, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    });
    match written.await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(LinkEnd::Cut(error.to_string().into())),
        None => Err(LinkEnd::Stalled),
    }
}
