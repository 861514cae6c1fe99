//! How a link ends, and what keeps it up.

use super::*;

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
