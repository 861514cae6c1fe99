//! What waits, what leaves, and how every request ends.

use super::*;
use crate::transport::requests::LOOK_EVERY;

const BODY: usize = 100;

fn bounds() -> Bounds {
    Bounds {
        frame_bytes_max: 4096,
        batch_bytes: 1024,
        window_bytes: 1 << 20,
        queue_bytes_max: 1 << 20,
    }
}

fn outbox(bounds: Bounds) -> Arc<Outbox> {
    Arc::new(Outbox::new(bounds, Arc::new(Meter::new())))
}

fn ask(outbox: &Arc<Outbox>, within: Duration) -> Result<Ticket, Unanswered> {
    outbox.ask(vec![7; BODY], Clock.now() + within)
}

/// Waits for the end of a request, while the link's task watches the time.
async fn end_of(outbox: &Outbox, ticket: Ticket) -> Result<Bytes, Unanswered> {
    tokio::select! {
        biased;
        end = ticket.answer() => end,
        () = outbox.watch() => unreachable!("it watches on"),
        () = Clock.sleep(60 * second()) => panic!("it never ends"),
    }
}

fn second() -> Duration {
    Duration::from_secs(1)
}

#[tokio::test]
async fn what_waits_leaves_together_up_to_the_batch_size() {
    let outbox = outbox(bounds());
    let tickets: Vec<_> = (0..20).map(|_| ask(&outbox, second()).unwrap()).collect();
    let mut frame = FrameWriter::default();

    let counts = [(); 4].map(|()| outbox.form(&mut frame));

    // 1024 bytes hold 8 envelopes of 117.
    assert_eq!(counts, [8, 8, 4, 0]);
    drop(tickets);
}

#[tokio::test]
async fn one_envelope_larger_than_a_batch_leaves_alone() {
    let outbox = outbox(bounds());
    let mut frame = FrameWriter::default();
    outbox.tell(vec![0; 3000]).unwrap();
    outbox.tell(vec![0; 10]).unwrap();

    assert_eq!(outbox.form(&mut frame), 1);
    assert_eq!(outbox.form(&mut frame), 1);
}

#[tokio::test]
async fn no_more_is_under_way_than_the_peer_allows() {
    let two = 2 * cost(BODY);
    let outbox = outbox(Bounds {
        window_bytes: two,
        ..bounds()
    });
    let tickets: Vec<_> = (0..3).map(|_| ask(&outbox, second()).unwrap()).collect();
    let mut frame = FrameWriter::default();

    assert_eq!(outbox.form(&mut frame), 2);
    assert_eq!(outbox.form(&mut frame), 0);
    outbox.settle(cost(BODY)).unwrap();
    assert_eq!(outbox.form(&mut frame), 1);
    assert!(outbox.settle(4 * cost(BODY)).is_err(), "more than was sent");
    assert!(outbox.settle(0).is_err(), "less than before");
    drop(tickets);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_retry() {
    let outbox = outbox(Bounds {
        queue_bytes_max: 2 * cost(BODY),
        ..bounds()
    });
    let tickets = [
        ask(&outbox, second()).unwrap(),
        ask(&outbox, second()).unwrap(),
    ];

    let third = ask(&outbox, second()).err();
    let note = outbox.tell(vec![0; BODY]);
    outbox.form(&mut FrameWriter::default());
    let fourth = ask(&outbox, second());

    let full = Unanswered::Overloaded {
        retry_after: RETRY_AFTER,
    };
    assert_eq!(third, Some(full.clone()));
    assert_eq!(note, Err(full));
    assert!(fourth.is_ok());
    drop(tickets);
}

#[tokio::test]
async fn an_envelope_larger_than_a_frame_or_the_window_is_refused() {
    for bounds in [
        bounds(),
        Bounds {
            window_bytes: 500,
            ..bounds()
        },
    ] {
        let outbox = outbox(bounds);

        let refused = outbox.ask(vec![0; 4096], Clock.now() + second());

        assert!(matches!(refused.err(), Some(Unanswered::TooLarge(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_past_its_deadline_never_leaves() {
    let outbox = outbox(bounds());
    let short = ask(&outbox, Duration::from_millis(10)).unwrap();
    let long = ask(&outbox, second()).unwrap();

    let end = end_of(&outbox, short).await;

    assert_eq!(end, Err(Unanswered::Unsent));
    assert_eq!(
        outbox.form(&mut FrameWriter::default()),
        1,
        "only the other"
    );
    drop(long);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_left_and_has_no_answer_is_late() {
    let outbox = outbox(bounds());
    let ticket = ask(&outbox, Duration::from_millis(10)).unwrap();
    outbox.form(&mut FrameWriter::default());

    assert_eq!(end_of(&outbox, ticket).await, Err(Unanswered::Late));
    assert_eq!(outbox.depth().0, 0);
}

#[tokio::test(start_paused = true)]
async fn each_request_ends_in_its_own_time_and_no_other() {
    let outbox = outbox(bounds());
    let begin = Clock.now();
    // Not in the order of their times, and two at nearly the same.
    let within = [400, 100, 900, 101, 700].map(Duration::from_millis);
    let mut tickets: Vec<_> = within
        .map(|within| (within, ask(&outbox, within).unwrap()))
        .into_iter()
        .collect();
    tickets.sort_by_key(|(within, _)| *within);

    for (within, ticket) in tickets {
        assert_eq!(end_of(&outbox, ticket).await, Err(Unanswered::Unsent));

        let took = Clock.now() - begin;
        let late = took.checked_sub(within).expect("none ends early");
        assert!(late <= LOOK_EVERY, "{within:?} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_told_less_time_than_the_caller_has() {
    let outbox = outbox(bounds());
    let tickets = [
        ask(&outbox, second()),
        ask(&outbox, Duration::from_millis(40)),
    ];
    tokio::time::advance(Duration::from_millis(20)).await;
    let mut frame = FrameWriter::default();

    outbox.form(&mut frame);

    let bytes = frame.finish(0);
    let ms = |item: usize| {
        let at = 4 + FRAME_HEAD + item * (ITEM_HEAD + BODY) + 9;
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    // 980 left, 50 for the way back; 20 left, a quarter of it for the way back.
    assert_eq!((ms(0), ms(1)), (930, 15));
    drop(tickets);
}

#[tokio::test(start_paused = true)]
async fn an_ended_link_says_what_left_and_what_did_not() {
    let outbox = outbox(bounds());
    let sent = ask(&outbox, second()).unwrap();
    outbox.form(&mut FrameWriter::default());
    let unsent = ask(&outbox, second()).unwrap();

    outbox.end(&"it was cut");

    assert_eq!(
        end_of(&outbox, sent).await,
        Err(Unanswered::Lost("it was cut".into()))
    );
    assert_eq!(
        end_of(&outbox, unsent).await,
        Err(Unanswered::NotLinked("it was cut".into()))
    );
    assert!(matches!(
        ask(&outbox, second()).err(),
        Some(Unanswered::NotLinked(_))
    ));
}

#[tokio::test]
async fn a_leaving_peer_gets_nothing_new_and_answers_what_it_has() {
    let outbox = outbox(bounds());
    let sent = ask(&outbox, second()).unwrap();
    outbox.form(&mut FrameWriter::default());
    let unsent = ask(&outbox, second()).unwrap();

    outbox.leave();

    assert!(matches!(
        unsent.answer().await,
        Err(Unanswered::NotLinked(_))
    ));
    assert!(ask(&outbox, second()).is_err());
    assert_eq!(outbox.phase(), (Phase::Leaving, false));
    outbox.answered([(1, Bytes::from_static(b"done"))].into_iter());
    assert_eq!(outbox.phase(), (Phase::Leaving, true));
    assert_eq!(sent.answer().await, Ok(Bytes::from_static(b"done")));
}

#[tokio::test]
async fn dropping_a_request_abandons_the_answer_and_not_the_work() {
    let outbox = outbox(bounds());
    drop(ask(&outbox, second()).unwrap());

    assert_eq!(outbox.form(&mut FrameWriter::default()), 1);
    outbox.answered([(1, Bytes::new())].into_iter());
    assert_eq!(outbox.depth().0, 0);
}
