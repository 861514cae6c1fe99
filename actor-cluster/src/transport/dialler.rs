//! Keeps a link to one peer: dials, dials again after a pause that grows, and tells what happened.
//!
//! Not here: which peers there are; membership says so.

use std::{
    fmt, io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_core::clock::{Clock, Rng};
use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::{
    DialFailure, LinkEnd, LinkEvent, Peer, PeerId,
    alarm::within,
    config::LinkConfig,
    dialled::Dialled,
    handshake::{self, Agreed, Purpose},
    links::Shared,
    meter::{Direction, LinkSnapshot, LinkState, Meter, UpGuard},
    outbox::{Bounds, Outbox, Phase},
    tls::Channel,
};

/// A link that was up for this long did well: the next dial after it is the first again.
const SETTLED: Duration = Duration::from_secs(1);

/// A peer this node keeps a link to.
pub(super) struct Kept {
    peer: Peer,
    /// The link, while it is up.
    outbox: Mutex<Option<Arc<Outbox>>>,
    meter: Arc<Meter>,
    encrypted: bool,
    ups: AtomicU64,
    had_link: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// Becomes true when this node wants no link any more.
    ending: watch::Sender<bool>,
}

impl Kept {
    pub(super) fn new(peer: Peer, encrypted: bool) -> Self {
        Self {
            peer,
            outbox: Mutex::default(),
            meter: Arc::new(Meter::new()),
            encrypted,
            ups: AtomicU64::new(0),
            had_link: AtomicBool::new(false),
            trouble: Mutex::default(),
            ending: watch::Sender::new(false),
        }
    }

    /// Ends the link in order and dials no more.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Returns the link if it is up.
    pub(super) fn outbox(&self) -> Option<Arc<Outbox>> {
        self.lock_outbox().clone()
    }

    pub(super) fn snapshot(&self) -> LinkSnapshot {
        let outbox = self.outbox();
        let depth = outbox.as_ref().map(|outbox| outbox.depth());
        let (open, queue_bytes, unconsumed_bytes) = depth.unwrap_or_default();
        let state = match outbox.map(|outbox| outbox.phase().0) {
            None | Some(Phase::Ended) => LinkState::Dialling,
            Some(Phase::Open) => LinkState::Up,
            Some(Phase::Closing | Phase::Leaving) => LinkState::Leaving,
        };
        LinkSnapshot {
            node: self.peer.id.node.as_str().to_owned(),
            incarnation: self.peer.id.incarnation.0,
            address: self.peer.address.to_string(),
            direction: Direction::Dialled,
            state,
            encrypted: self.encrypted,
            open,
            queue_bytes,
            unconsumed_bytes,
            frames_in: self.meter.frames_in.load(Ordering::Relaxed),
            frames_out: self.meter.frames_out.load(Ordering::Relaxed),
            bytes_in: self.meter.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.meter.bytes_out.load(Ordering::Relaxed),
            reconnects: self.ups.load(Ordering::Relaxed).saturating_sub(1),
            trouble: self.lock_trouble().clone(),
        }
    }

    fn lock_outbox(&self) -> MutexGuard<'_, Option<Arc<Outbox>>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} at {})", self.peer.id, self.peer.address)
    }
}

/// Keeps the link until it is to end. A panic on the way, a bug, costs one link and no more.
pub(super) async fn keep(shared: Arc<Shared>, kept: Arc<Kept>) {
    loop {
        let dialler = AssertUnwindSafe(dial_on(&shared, &kept)).catch_unwind();
        if dialler.await.is_ok() {
            return;
        }
        tracing::error!(peer = %kept.peer.id, "the dialler of a node link panicked");
        if let Some(outbox) = kept.lock_outbox().take() {
            outbox.end(&"the link's task panicked");
        }
        Clock.sleep(shared.config.backoff_max).await;
    }
}

async fn dial_on(shared: &Arc<Shared>, kept: &Kept) {
    let mut ending = kept.ending.subscribe();
    let mut failures = 0;
    while !*ending.borrow_and_update() {
        let established = tokio::select! {
            biased;
            // Cancel safe: it only watches. A dial that is dropped hangs up.
            _ = ending.wait_for(|ending| *ending) => return,
            established = dial(shared, &kept.peer, Purpose::Link) => established,
        };
        let why = match established {
            Ok((channel, agreed)) => {
                let began = Clock.now();
                let why = Box::pin(link(shared, kept, channel, &agreed)).await;
                if Clock.now() - began >= SETTLED {
                    failures = 0;
                }
                why.to_string()
            }
            Err(why) => {
                unreached(shared, kept, &why, failures);
                why.to_string()
            }
        };
        *kept.lock_trouble() = Some(why);
        let pause = pause(&shared.config, &shared.rng, failures);
        failures += 1;
        tokio::select! {
            biased;
            // Cancel safe: it only watches.
            _ = ending.wait_for(|ending| *ending) => return,
            () = Clock.sleep(pause) => {}
        }
    }
}

/// Moves envelopes over a fresh connection until it ends.
async fn link(shared: &Arc<Shared>, kept: &Kept, channel: Channel, agreed: &Agreed) -> LinkEnd {
    let config = &shared.config;
    let bounds = Bounds {
        frame_bytes_max: config.frame_bytes_max.min(agreed.frame_bytes_max as usize),
        batch_bytes: config.batch_bytes,
        window_bytes: agreed.window_bytes,
        queue_bytes_max: config.queue_bytes_max as u64,
    };
    let outbox = Arc::new(Outbox::new(bounds, kept.meter.clone()));
    let peer = &kept.peer.id;
    if kept.ups.fetch_add(1, Ordering::Relaxed) > 0 {
        metrics::counter!("actor_link_reconnects_total").increment(1);
    }
    kept.had_link.store(true, Ordering::Relaxed);
    *kept.lock_outbox() = Some(outbox.clone());
    let up = UpGuard::new(Direction::Dialled);
    tracing::info!(%peer, format = agreed.format, "linked up with a node");
    shared.emit(LinkEvent::Up(peer.clone()));
    let dialled = Dialled {
        stream: channel.stream,
        outbox,
        meter: kept.meter.clone(),
        config: config.clone(),
        ending: kept.ending.subscribe(),
    };
    let why = dialled
        .run(|| shared.emit(LinkEvent::Leaving(peer.clone())))
        .await;
    kept.lock_outbox().take();
    drop(up);
    tracing::info!(%peer, %why, "the link to a node ended");
    shared.emit(LinkEvent::Down {
        peer: peer.clone(),
        why: why.clone(),
    });
    why
}

/// Opens a connection to a peer and proves who is on both sides.
pub(super) async fn dial(
    shared: &Shared,
    peer: &Peer,
    purpose: Purpose,
) -> Result<(Channel, Agreed), DialFailure> {
    let config = &shared.config;
    let connect = within(
        config.connect_timeout,
        shared.sockets.connect(&peer.address),
    );
    let stream = match connect.await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(DialFailure::Refused);
        }
        Some(Err(error)) => return Err(DialFailure::Unreachable(error.to_string().into())),
        None => return Err(DialFailure::TimedOut),
    };
    let prove = async {
        let mut channel = match &config.tls {
            Some(tls) => tls
                .connect(stream, &peer.address)
                .await
                .map_err(|error| DialFailure::Tls(error.to_string().into()))?,
            None => Channel::plain(stream),
        };
        let (me, terms) = (shared.me(), shared.terms());
        let Channel { stream, binding } = &mut channel;
        let agreed =
            handshake::dial(stream, binding, &shared.key, &me, &peer.id, purpose, &terms).await?;
        Ok((channel, agreed))
    };
    let proved = within(config.handshake_timeout, prove).await;
    proved.unwrap_or(Err(DialFailure::TimedOut))
}

fn unreached(shared: &Shared, kept: &Kept, why: &DialFailure, failures: u32) {
    let peer = &kept.peer.id;
    let name = match why {
        DialFailure::Refused => "refused",
        DialFailure::Other(_) => "other",
        DialFailure::TimedOut => "timed_out",
        DialFailure::Unreachable(_) => "unreachable",
        DialFailure::Tls(_) => "tls",
        DialFailure::Unauthenticated => "unauthenticated",
        DialFailure::Format { .. } => "format",
        DialFailure::Leaving => "leaving",
        DialFailure::Garbage(_) => "garbage",
    };
    metrics::counter!("actor_link_dials_failed_total", "why" => name).increment(1);
    // The first of a row is news; the rest is on the dashboard.
    if failures <= 1 {
        tracing::warn!(%peer, address = %kept.peer.address, %why, "a node is not reached");
    }
    shared.emit(LinkEvent::Unreached {
        peer: PeerId::clone(peer),
        why: why.clone(),
        had_link: kept.had_link.load(Ordering::Relaxed),
    });
}

/// Returns the pause before the next dial: none after a link that did well, because what a dial
/// finds then is evidence (architecture D3).
fn pause(config: &LinkConfig, rng: &Rng, failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let grown = config
        .backoff_min
        .saturating_mul(1 << (failures - 1).min(20));
    rng.jitter(grown.min(config.backoff_max), 50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Secret;

    #[test]
    fn dials_that_fail_follow_each_other_ever_more_slowly_up_to_a_bound() {
        let config = LinkConfig::new(Secret::new("sixteen bytes it is"));
        let ms = |failures, rng: &Rng| pause(&config, rng, failures).as_millis();
        let cases = [
            (0, 0),
            (1, 50),
            (2, 100),
            (5, 800),
            (7, 3000),
            (u32::MAX, 3000),
        ];

        for seed in 0..100 {
            let rng = Rng::seeded(seed);
            for (failures, middle) in cases {
                let pause = ms(failures, &rng);
                let swing = middle / 2;
                let expected = middle - swing..=middle + swing;
                assert!(expected.contains(&pause), "{pause} ms after {failures}");
            }
        }
        let spread: std::collections::BTreeSet<_> =
            (0..100).map(|seed| ms(7, &Rng::seeded(seed))).collect();
        assert!(spread.len() > 50, "nodes do not dial in step");
    }
}
