//! A whole link between two halves without sockets, on a paused clock.

mod ends;

use std::{
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actor_core::{
    client::Invocation,
    clock::{Clock, Instant},
    entity::Encoded,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::*;
use crate::{
    node::Secret,
    transport::{
        Unanswered,
        dialled::Dialled,
        envelope::Call,
        outbox::{Bounds, Outbox},
    },
};

/// Answers by method: `echo` with its arguments, `never` not at all, `panic` with a panic, and
/// `panic at once` with one before there is anything to wait for.
#[derive(Debug, Default)]
struct Handler {
    begun: Mutex<Vec<Vec<u8>>>,
    /// What was left of each one's time.
    within: Mutex<Vec<Duration>>,
    notes: AtomicUsize,
}

impl Inbound for Handler {
    fn request(
        &self,
        _: &PeerId,
        request: Request,
        within: Duration,
    ) -> BoxFuture<'static, Answer> {
        let Request::Invoke(Call { invocation, .. }) = request else {
            panic!("the tests send calls");
        };
        self.begun.lock().unwrap().push(invocation.args.clone());
        self.within.lock().unwrap().push(within);
        assert_ne!(&*invocation.method, "panic at once");
        Box::pin(async move {
            match &*invocation.method {
                "echo" => Answer::Outcome(Encoded {
                    ok: true,
                    bytes: invocation.args,
                }),
                "large" => Answer::Outcome(Encoded {
                    ok: true,
                    bytes: vec![0; 100_000],
                }),
                "panic" => panic!("on purpose"),
                _ => pending().await,
            }
        })
    }

    fn note(&self, _: &PeerId, _: Note) {
        self.notes.fetch_add(1, Ordering::Relaxed);
    }
}

struct Pair {
    outbox: Arc<Outbox>,
    answers: Arc<Answers>,
    handler: Arc<Handler>,
    dialled: JoinHandle<LinkEnd>,
    accepted: JoinHandle<LinkEnd>,
    ending: watch::Sender<bool>,
}

fn config() -> LinkConfig {
    let mut config = LinkConfig::new(Secret::new("sixteen bytes it is"));
    config.frame_bytes_max = 8 * 1024;
    config.batch_bytes = 2 * 1024;
    config.window_bytes = 16 * 1024;
    config.queue_bytes_max = 32 * 1024;
    config
}

/// Links two halves over `left` and `right`, which a test may have tampered with.
fn link(left: DuplexStream, right: DuplexStream, config: LinkConfig) -> Pair {
    config.check().expect("the tests' bounds are accepted");
    let config = Arc::new(config);
    let meter = Arc::new(Meter::new());
    let bounds = Bounds {
        frame_bytes_max: config.frame_bytes_max,
        batch_bytes: config.batch_bytes,
        window_bytes: config.window_bytes as u64,
        queue_bytes_max: config.queue_bytes_max as u64,
    };
    let outbox = Arc::new(Outbox::new(bounds, meter.clone()));
    let answers = Arc::new(Answers::new(&config, config.frame_bytes_max, meter.clone()));
    let handler = Arc::new(Handler::default());
    let (ending, on_ending) = watch::channel(false);
    let dialled = Dialled {
        stream: left,
        outbox: outbox.clone(),
        meter: meter.clone(),
        config: config.clone(),
        ending: on_ending,
    };
    let accepted = Accepted {
        stream: right,
        peer: PeerId::new("a", 1),
        inbound: handler.clone(),
        answers: answers.clone(),
        meter,
        config,
    };
    Pair {
        outbox,
        answers,
        handler,
        dialled: tokio::spawn(dialled.run(|| {})),
        accepted: tokio::spawn(accepted.run()),
        ending,
    }
}

fn pair(config: LinkConfig) -> Pair {
    let (left, right) = duplex(64 * 1024);
    link(left, right, config)
}

fn soon() -> Instant {
    Clock.now() + Duration::from_secs(60)
}

fn request(method: &str, args: &[u8]) -> Vec<u8> {
    let invocation = Invocation::new("cart", "c", method);
    let call = Call {
        invocation: invocation.args(actor_core::codec::Codec::Json, args.to_vec()),
        epoch: None,
        request: None,
        chain: Arc::default(),
    };
    Request::Invoke(call).encode()
}

impl Pair {
    async fn ask(&self, method: &str, args: &[u8]) -> Result<Answer, Unanswered> {
        let ticket = self.outbox.ask(request(method, args), soon())?;
        let body = ticket.answer().await?;
        Ok(Answer::decode(&body).expect("an answer"))
    }
}

fn echoed(answer: Result<Answer, Unanswered>) -> Vec<u8> {
    match answer {
        Ok(Answer::Outcome(Encoded { ok: true, bytes })) => bytes,
        other => panic!("{other:?}"),
    }
}

fn kind(answer: Result<Answer, Unanswered>) -> &'static str {
    match answer {
        Ok(Answer::Refused(refusal)) => refusal.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn requests_begin_in_the_order_sent_and_have_their_answers() {
    let pair = pair(config());
    let asking: Vec<_> = (0..100_u8)
        .map(|n| pair.outbox.ask(request("echo", &[n; 20]), soon()).unwrap())
        .collect();

    for (n, ticket) in asking.into_iter().enumerate() {
        let answer = ticket
            .answer()
            .await
            .map(|body| Answer::decode(&body).unwrap());
        assert_eq!(echoed(answer), [n as u8; 20]);
    }
    let begun = pair.handler.begun.lock().unwrap().clone();
    assert!(begun.is_sorted() && begun.len() == 100);
}

/// Writes 200 requests to the accepting half of a link, in one frame.
async fn one_large_frame(within: Duration) -> (Pair, DuplexStream) {
    let mut large = config();
    (large.frame_bytes_max, large.batch_bytes) = (64 * 1024, 64 * 1024);
    (large.window_bytes, large.queue_bytes_max) = (128 * 1024, 128 * 1024);
    let (mut left, right) = duplex(64 * 1024);
    let pair = link(duplex(64).0, right, large);
    let mut frame = FrameWriter::default();
    frame.begin(FrameKind::Batch);
    for number in 1..=200 {
        frame.push(ItemKind::Request, number, within, &request("echo", b"x"));
    }
    left.write_all(frame.finish(0)).await.unwrap();
    (pair, left)
}

#[tokio::test(start_paused = true)]
async fn answers_leave_before_a_large_frame_is_begun_to_its_end() {
    let (pair, left) = one_large_frame(Duration::from_secs(9)).await;

    let mut reader = FrameReader::new(left, 64 * 1024, Duration::from_secs(9));
    let first = reader.next().await.expect("answers");

    let begun = pair.handler.begun.lock().unwrap().len();
    assert!(first.items.len() >= AT_ONCE, "{}", first.items.len());
    assert!(begun < 200, "{begun} were begun before any answer left");
    let mut answered = first.items.len();
    while answered < 200 {
        answered += reader.next().await.expect("answers").items.len();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_request_waits_in_its_frame_is_taken_off_its_time() {
    let (pair, _left) = one_large_frame(Duration::from_secs(2)).await;
    let begun = || pair.handler.within.lock().unwrap().clone();
    while begun().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(begun().len() < 100, "half of the frame still waits");

    tokio::time::advance(Duration::from_millis(500)).await;
    while begun().len() < 200 {
        tokio::task::yield_now().await;
    }

    let [first, .., last] = begun()[..] else {
        panic!("200 were begun");
    };
    assert_eq!(first, Duration::from_secs(2));
    assert_eq!(last, Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_late_at_its_deadline() {
    let pair = pair(config());
    let begin = Clock.now();
    let within = Duration::from_secs(2);
    let ticket = pair.outbox.ask(request("never", b""), begin + within);

    let end = tokio::select! {
        end = ticket.unwrap().answer() => end,
        () = Clock.sleep_until(begin + 3 * within) => panic!("it never ends"),
    };

    assert_eq!(end, Err(Unanswered::Late));
    assert!(begin.elapsed() >= within && begin.elapsed() < within + Duration::from_millis(10));
}

// TRN-2
#[tokio::test(start_paused = true)]
async fn an_envelope_that_cannot_be_read_costs_only_itself() {
    let pair = pair(config());
    let bad = pair.outbox.ask(vec![9, 9, 9], soon()).unwrap();
    pair.outbox.tell(vec![9]).unwrap();
    let good = pair.ask("echo", b"x").await;

    let bad = bad
        .answer()
        .await
        .map(|body| Answer::decode(&body).unwrap());

    assert_eq!(kind(bad), "decode");
    assert_eq!(echoed(good), b"x");
    assert_eq!(pair.handler.notes.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_only_its_request() {
    let pair = pair(config());

    assert_eq!(kind(pair.ask("panic", b"").await), "crashed");
    assert_eq!(kind(pair.ask("panic at once", b"").await), "crashed");
    assert_eq!(echoed(pair.ask("echo", b"x").await), b"x");
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_a_frame_is_too_large() {
    let pair = pair(config());

    assert_eq!(kind(pair.ask("large", b"").await), "too_large");
    assert_eq!(echoed(pair.ask("echo", b"x").await), b"x");
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_holds_no_more_than_its_window_and_the_sender_no_more_than_its_queue() {
    let pair = pair(config());
    let mut tickets = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        match pair.outbox.ask(request("never", &[0; 1000]), soon()) {
            Ok(ticket) => tickets.push(ticket),
            Err(Unanswered::Overloaded { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        tokio::task::yield_now().await;
    }
    // Time passes only once both tasks have nothing left to do.
    Clock
        .sleep_until(Clock.now() + Duration::from_secs(10))
        .await;

    let each = cost(request("never", &[0; 1000]).len());
    let (open, _, held) = pair.answers.depth();
    let (_, waiting, _) = pair.outbox.depth();
    assert_eq!(
        open as u64,
        16 * 1024 / each,
        "the window is used to its end"
    );
    assert!(held <= 16 * 1024, "{held} held by the receiver");
    assert!(waiting <= 32 * 1024, "{waiting} held by the sender");
    assert_eq!(refused + tickets.len(), 1000);
    assert!(!pair.dialled.is_finished() && !pair.accepted.is_finished());
}

#[tokio::test(start_paused = true)]
async fn notes_give_the_window_back_without_answers() {
    let pair = pair(config());
    let note = Note::Due {
        shard: actor_core::ShardId(1),
        kind: "cart".into(),
        id: "c".into(),
        due_in: Duration::ZERO,
    };

    // Many times the window.
    for sent in 0..2000 {
        while pair.outbox.tell(note.encode()).is_err() {
            assert!(!pair.dialled.is_finished(), "after {sent}");
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(echoed(pair.ask("echo", b"x").await), b"x");

    assert_eq!(pair.handler.notes.load(Ordering::Relaxed), 2000);
}

#[tokio::test(start_paused = true)]
async fn an_expired_request_is_not_begun() {
    let (mut left, right) = duplex(1024);
    let (other, _kept) = duplex(64);
    let pair = link(other, right, config());
    let mut frame = FrameWriter::default();
    frame.begin(FrameKind::Batch);
    frame.push(ItemKind::Request, 1, Duration::ZERO, &request("echo", b"x"));
    left.write_all(frame.finish(0)).await.unwrap();

    let answer = FrameReader::new(&mut left, 1024, Duration::from_secs(5))
        .next()
        .await;

    let body = answer.unwrap().items[0].body.clone();
    let late = Answer::Refused(Refusal::Timeout { started: false });
    assert_eq!(Answer::decode(&body), Ok(late));
    assert!(pair.handler.begun.lock().unwrap().is_empty());
}
