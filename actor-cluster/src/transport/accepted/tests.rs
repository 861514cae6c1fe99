//! A whole link between two halves without sockets, on a paused clock.

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
    notes: AtomicUsize,
}

impl Inbound for Handler {
    fn request(&self, _: &PeerId, request: Request, _: Duration) -> BoxFuture<'static, Answer> {
        let Request::Invoke(Call { invocation, .. }) = request else {
            panic!("the tests send calls");
        };
        self.begun.lock().unwrap().push(invocation.args.clone());
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

#[tokio::test(start_paused = true)]
async fn answers_leave_before_a_large_frame_is_begun_to_its_end() {
    let mut large = config();
    (large.frame_bytes_max, large.batch_bytes) = (64 * 1024, 64 * 1024);
    (large.window_bytes, large.queue_bytes_max) = (128 * 1024, 128 * 1024);
    let (mut left, right) = duplex(64 * 1024);
    let (other, _kept) = duplex(64);
    let pair = link(other, right, large);
    let mut frame = FrameWriter::default();
    frame.begin(FrameKind::Batch);
    for number in 1..=200 {
        let within = Duration::from_secs(9);
        frame.push(ItemKind::Request, number, within, &request("echo", b"x"));
    }
    left.write_all(frame.finish(0)).await.unwrap();

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
async fn an_idle_link_stays_up() {
    let pair = pair(config());

    Clock
        .sleep_until(Clock.now() + Duration::from_secs(3600))
        .await;

    assert_eq!(echoed(pair.ask("echo", b"x").await), b"x");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_loses_its_link_and_open_requests_end_as_unknown() {
    let (left, mute) = duplex(64 * 1024);
    let (_other, right) = duplex(64);
    let pair = link(left, right, config());
    let began = Clock.now();
    let asking = pair.ask("echo", b"x").await;

    assert!(matches!(asking, Err(Unanswered::Lost(_))), "{asking:?}");
    assert_eq!(pair.dialled.await.unwrap(), LinkEnd::Silence);
    assert_eq!(pair.accepted.await.unwrap(), LinkEnd::Silence);
    assert_eq!(began.elapsed(), config().silence);
    drop(mute);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_loses_its_link() {
    // Too small for a frame, and nobody reads; but the peer's heartbeats arrive.
    let (left, mut stuck) = duplex(64);
    let (_other, right) = duplex(64);
    let pair = link(left, right, config());
    let beating = tokio::spawn(async move {
        let mut beat = FrameWriter::default();
        loop {
            beat.begin(FrameKind::Batch);
            if stuck.write_all(beat.finish(0)).await.is_err() {
                return;
            }
            Clock
                .sleep_until(Clock.now() + Duration::from_secs(1))
                .await;
        }
    });

    let asking = pair.ask("echo", &[0; 500]).await;

    assert!(matches!(asking, Err(Unanswered::Lost(_))), "{asking:?}");
    assert_eq!(pair.dialled.await.unwrap(), LinkEnd::Stalled);
    beating.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_link_ends_in_order_once_everything_is_answered() {
    let pair = pair(config());
    let open = pair.outbox.ask(request("echo", b"x"), soon()).unwrap();

    pair.ending.send_replace(true);

    let answer = open
        .answer()
        .await
        .map(|body| Answer::decode(&body).unwrap());
    assert_eq!(echoed(answer), b"x");
    assert_eq!(pair.dialled.await.unwrap(), LinkEnd::Local);
    assert_eq!(pair.accepted.await.unwrap(), LinkEnd::Orderly);
}

#[tokio::test(start_paused = true)]
async fn a_leaving_acceptor_answers_what_it_has() {
    let pair = pair(config());
    let open = pair.outbox.ask(request("echo", b"x"), soon()).unwrap();

    pair.answers.leave();

    let answer = open.answer().await;
    let (dialled, accepted) = (pair.dialled.await.unwrap(), pair.accepted.await.unwrap());
    match answer {
        // Either it had left before the word came, or it never leaves.
        Ok(body) => assert_eq!(echoed(Ok(Answer::decode(&body).unwrap())), b"x"),
        Err(why) => assert!(!why.may_have_begun(), "{why:?}"),
    }
    assert_eq!((dialled, accepted), (LinkEnd::Orderly, LinkEnd::Orderly));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_takes_too_long_is_cut() {
    let pair = pair(config());
    let open = pair.outbox.ask(request("never", b""), soon()).unwrap();
    let began = Clock.now();
    pair.ending.send_replace(true);

    let answer = open.answer().await;

    assert!(matches!(answer, Err(Unanswered::Lost(_))));
    assert_eq!(pair.dialled.await.unwrap(), LinkEnd::Local);
    assert_eq!(began.elapsed(), config().close_timeout);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_link_gives_way_to_a_newer_one() {
    let pair = pair(config());

    pair.answers.replace();

    assert_eq!(pair.accepted.await.unwrap(), LinkEnd::Replaced);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_more_than_allowed_is_cut_off() {
    let (mut left, right) = duplex(64 * 1024);
    let (other, _kept) = duplex(64);
    let pair = link(other, right, config());
    let mut frame = FrameWriter::default();
    for number in 1..=20 {
        frame.begin(FrameKind::Batch);
        let within = Duration::from_secs(9);
        frame.push(
            ItemKind::Request,
            number,
            within,
            &request("never", &[0; 1000]),
        );
        left.write_all(frame.finish(0)).await.unwrap();
    }

    let end = pair.accepted.await.unwrap();

    assert!(matches!(&end, LinkEnd::Garbage(why) if why.contains("more than it was allowed")));
}

#[tokio::test(start_paused = true)]
async fn frames_that_do_not_belong_end_the_link() {
    type Make = fn(&mut FrameWriter) -> Vec<u8>;
    let cases: [(&str, Make); 3] = [
        ("an answer", |frame| {
            frame.begin(FrameKind::Batch);
            frame.push(ItemKind::Answer, 1, Duration::ZERO, b"");
            frame.finish(0).to_vec()
        }),
        ("a leaving dialler", |frame| {
            frame.begin(FrameKind::Leaving);
            frame.finish(0).to_vec()
        }),
        ("a dialler that consumes", |frame| {
            frame.begin(FrameKind::Batch);
            frame.finish(5).to_vec()
        }),
    ];

    for (what, make) in cases {
        let (mut left, right) = duplex(1024);
        let (other, _kept) = duplex(64);
        let pair = link(other, right, config());
        left.write_all(&make(&mut FrameWriter::default()))
            .await
            .unwrap();

        let end = pair.accepted.await.unwrap();

        assert!(matches!(end, LinkEnd::Garbage(_)), "{what}: {end:?}");
    }
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

#[tokio::test(start_paused = true)]
async fn callers_who_leave_do_not_keep_a_link_from_ending() {
    let pair = pair(config());
    let (left_sender, left) = oneshot::channel();
    let ticket = pair.outbox.ask(request("never", b""), soon()).unwrap();
    tokio::spawn(async move {
        drop(ticket);
        left_sender.send(()).unwrap();
    });
    left.await.unwrap();

    pair.ending.send_replace(true);

    assert_eq!(pair.dialled.await.unwrap(), LinkEnd::Local);
}
