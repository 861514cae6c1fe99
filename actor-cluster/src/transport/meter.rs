//! What links count: for each link, for the recorder, and for operators.
//!
//! | metric | kind | meaning |
//! |---|---|---|
//! | `actor_links{direction}` | gauge | links that are up, `dialled` or `accepted` |
//! | `actor_link_queue_bytes` | gauge | requests and answers that wait to be written |
//! | `actor_link_frames_total{direction}` | counter | frames, `in` or `out` |
//! | `actor_link_envelopes_total{direction}` | counter | envelopes in them |
//! | `actor_link_bytes_total{direction}` | counter | bytes of them |
//! | `actor_link_reconnects_total` | counter | links that came up again after they ended |
//! | `actor_link_dials_failed_total{why}` | counter | dials that did not become a link |
//! | `actor_link_arrivals_rejected_total{why}` | counter | arrivals that did not become a link |

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use metrics::Gauge;
use serde::Serialize;

/// Which side dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This node did: it sends requests.
    Dialled,
    /// The peer did: it asks.
    Accepted,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// A dial is under way, or the next one waits for its time.
    Dialling,
    /// It carries envelopes.
    Up,
    /// It takes no more requests.
    Leaving,
}

/// One link, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkSnapshot {
    /// The peer's name.
    pub node: String,
    /// Which life of it.
    pub incarnation: u64,
    /// What is dialled; empty for an accepted link.
    pub address: String,
    /// Which side dialled.
    pub direction: Direction,
    /// What it does.
    pub state: LinkState,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Requests without an answer yet.
    pub open: usize,
    /// Bytes that wait to be written.
    pub queue_bytes: u64,
    /// Bytes of requests that are under way and not consumed by the receiver.
    pub unconsumed_bytes: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// How often it came up again.
    pub reconnects: u64,
    /// Why it is not up, or was not before.
    pub trouble: Option<String>,
}

/// The counts of one link; they go on when it is dialled anew.
pub(super) struct Meter {
    pub(super) frames_in: AtomicU64,
    pub(super) frames_out: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    queue_bytes: Gauge,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            frames_in: AtomicU64::new(0),
            frames_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            queue_bytes: metrics::gauge!("actor_link_queue_bytes"),
        }
    }

    /// Counts a frame that was read.
    pub(super) fn read(&self, bytes: usize, envelopes: usize) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        count("in", bytes, envelopes);
    }

    /// Counts a frame that was written.
    pub(super) fn wrote(&self, bytes: usize, envelopes: usize) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        count("out", bytes, envelopes);
    }

    /// Counts bytes that wait to be written.
    pub(super) fn queued(&self, bytes: u64) {
        self.queue_bytes.increment(bytes as f64);
    }

    /// Counts bytes that wait no longer.
    pub(super) fn unqueued(&self, bytes: u64) {
        self.queue_bytes.decrement(bytes as f64);
    }
}

/// Counts a frame with the recorder. Looked up for each frame, not once: a node links up before its
/// program may have installed a recorder, and what was looked up then counts nowhere.
fn count(direction: &'static str, bytes: usize, envelopes: usize) {
    metrics::counter!("actor_link_frames_total", "direction" => direction).increment(1);
    metrics::counter!("actor_link_envelopes_total", "direction" => direction)
        .increment(envelopes as u64);
    metrics::counter!("actor_link_bytes_total", "direction" => direction).increment(bytes as u64);
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (frames_in, frames_out) = (of(&self.frames_in), of(&self.frames_out));
        write!(f, "Meter({frames_in} frames in, {frames_out} out)")
    }
}

/// Counts one more link that is up, until it is dropped.
#[derive(Debug)]
pub(super) struct UpGuard(Direction);

impl UpGuard {
    pub(super) fn new(direction: Direction) -> Self {
        gauge(direction).increment(1.0);
        Self(direction)
    }
}

impl Drop for UpGuard {
    fn drop(&mut self) {
        gauge(self.0).decrement(1.0);
    }
}

fn gauge(direction: Direction) -> Gauge {
    let direction = match direction {
        Direction::Dialled => "dialled",
        Direction::Accepted => "accepted",
    };
    metrics::gauge!("actor_links", "direction" => direction)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use metrics::{Counter, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// Keeps what is counted, by name and labels.
    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Kept {
        fn of(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
            let name = format!("{} {}", key.name(), labels.join(","));
            self.0.lock().unwrap().entry(name).or_default().clone()
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_link_that_is_older_than_the_recorder_is_counted_too() {
        let (kept, meter) = (Kept::default(), Meter::new());

        metrics::with_local_recorder(&kept, || meter.wrote(50, 2));

        let counted = kept.0.lock().unwrap();
        let count = counted["actor_link_envelopes_total out"].load(Ordering::Relaxed);
        assert_eq!(count, 2);
    }

    #[test]
    fn what_links_do_is_recorded_under_the_names_of_the_table() {
        let kept = Kept::default();

        metrics::with_local_recorder(&kept, || {
            let meter = Meter::new();
            meter.read(100, 3);
            meter.wrote(50, 2);
            meter.wrote(50, 2);
            meter.queued(30);
            meter.unqueued(10);
            let up = UpGuard::new(Direction::Dialled);
            drop(UpGuard::new(Direction::Accepted));
            std::mem::forget(up);
        });

        let counted = kept.0.lock().unwrap();
        let count = |name: &str| counted[name].load(Ordering::Relaxed);
        let gauge = |name: &str| f64::from_bits(count(name));
        assert_eq!(count("actor_link_frames_total in"), 1);
        assert_eq!(count("actor_link_frames_total out"), 2);
        assert_eq!(count("actor_link_envelopes_total in"), 3);
        assert_eq!(count("actor_link_bytes_total out"), 100);
        assert_eq!(gauge("actor_link_queue_bytes ").to_bits(), 20_f64.to_bits());
        assert_eq!(gauge("actor_links dialled").to_bits(), 1_f64.to_bits());
        assert_eq!(gauge("actor_links accepted").to_bits(), 0_f64.to_bits());
    }
}
