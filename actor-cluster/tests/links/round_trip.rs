//! What crosses a link: requests, answers, notes, in order and together.

use std::{sync::Arc, time::Duration};

use actor_cluster::transport::{
    Answer, DialFailure, Direction, LinkConfig, LinkEnd, LinkEvent, LinkState, Links, Note, PeerId,
    Transport, Unanswered,
};
use actor_core::{
    NodeId, ShardId,
    clock::{Clock, Rng},
    topic::{Position, TopicEvent},
};

use crate::kit::{config, node, node_with, outcome, soon};

#[tokio::test]
async fn requests_have_answers_both_ways() {
    let (mut a, mut b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    b.link(a.peer()).await;

    a.echoes(&b.id).await;
    b.echoes(&a.id).await;

    let seen: Vec<_> = a
        .links
        .snapshot()
        .into_iter()
        .map(|link| (link.node, link.direction, link.state, link.encrypted))
        .collect();
    assert_eq!(
        seen,
        [
            ("b".to_owned(), Direction::Dialled, LinkState::Up, false),
            ("b".to_owned(), Direction::Accepted, LinkState::Up, false),
        ]
    );
}

#[tokio::test]
async fn notes_arrive() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let due = Note::Due {
        shard: ShardId(4),
        kind: "cart".into(),
        id: "c-1".into(),
        due_in: Duration::from_millis(20),
    };
    let event = Note::Event(TopicEvent {
        topic: "orders".into(),
        position: Position {
            epoch: 1,
            offset: 7,
        },
        name: "OrderPlaced".into(),
        data: Arc::from(&b"{}"[..]),
    });

    a.links.tell(&b.id, &due).unwrap();
    a.links.tell(&b.id, &event).unwrap();

    let both = b.handler.until(|it| it.notes.lock().unwrap().len() == 2);
    soon("two notes", both).await;
    assert_eq!(*b.handler.notes.lock().unwrap(), [due, event]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_senders_requests_begin_in_its_order_and_share_frames() {
    const SENDERS: u8 = 8;
    const EACH: u8 = 200;
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let a = Arc::new(a);
    let senders = (0..SENDERS).map(|sender| {
        let (a, to) = (a.clone(), b.id.clone());
        tokio::spawn(async move {
            let sent: Vec<_> = (0..EACH)
                .map(|n| a.ask(&to, "echo", &[sender, n]))
                .collect();
            for (n, answer) in sent.into_iter().enumerate() {
                assert_eq!(answer.await, Ok(outcome(&[sender, n as u8])));
            }
        })
    });

    for sender in senders.collect::<Vec<_>>() {
        soon("all answers", sender).await.unwrap();
    }

    let begun = b.handler.begun.lock().unwrap().clone();
    for sender in 0..SENDERS {
        let of: Vec<_> = begun.iter().filter(|args| args[0] == sender).collect();
        assert!(of.is_sorted() && of.len() == usize::from(EACH));
    }
    let frames = a.links.snapshot()[0].frames_out;
    println!("1600 requests in {frames} frames");
    assert!(frames < 800, "{frames} frames for 1600 requests");
}

// TRN-6
#[tokio::test]
async fn a_request_without_a_link_did_not_leave() {
    let a = node("a").await;

    let answer = a.ask(&PeerId::new("b", 1), "echo", b"").await;

    let why = answer.unwrap_err();
    assert!(matches!(why, Unanswered::NotLinked(_)) && !why.may_have_begun());
    assert_eq!(why.refusal().kind(), "unavailable");
}

// TRN-4
#[tokio::test]
async fn a_panic_at_the_peer_is_told_as_a_crash_and_costs_one_request() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;

    let answer = soon("an answer", a.ask(&b.id, "panic", b"")).await;

    assert!(matches!(answer, Ok(Answer::Refused(it)) if it.kind() == "crashed"));
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn an_envelope_larger_than_a_frame_is_refused_and_costs_nothing_else() {
    let small = |config: &mut LinkConfig| {
        config.frame_bytes_max = 64 * 1024;
        config.batch_bytes = 16 * 1024;
    };
    let (mut a, b) = (node("a").await, node_with("b", small).await);
    a.link(b.peer()).await;

    let answer = a.ask(&b.id, "echo", &vec![0; 100_000]).await;

    assert!(matches!(answer, Err(Unanswered::TooLarge(_))), "{answer:?}");
    let fits = soon("an answer", a.ask(&b.id, "echo", &vec![1; 60_000])).await;
    assert_eq!(fits, Ok(outcome(&vec![1; 60_000])));
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_late_and_the_link_goes_on() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;

    let deadline = Clock.now() + Duration::from_millis(50);
    let sent = a.ask_by(&b.id, "gated", b"x", deadline);
    b.handler.reached(1).await;
    let answer = soon("its deadline", sent).await;
    b.handler.gate.add_permits(1);

    assert_eq!(answer, Err(Unanswered::Late));
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn a_slow_receiver_refuses_the_rest_and_serves_others() {
    const SMALL: usize = 64 * 1024;
    let small = |config: &mut LinkConfig| {
        config.frame_bytes_max = SMALL / 2;
        config.batch_bytes = SMALL / 4;
        config.window_bytes = SMALL;
        config.queue_bytes_max = SMALL;
    };
    let (mut a, b) = (node_with("a", small).await, node_with("b", small).await);
    let mut c = node("c").await;
    a.link(b.peer()).await;
    c.link(b.peer()).await;

    // 1 KiB each: about 60 fit into the window, as many into the queue.
    let mut sent = Vec::new();
    let mut refused = 0;
    for _ in 0..1000 {
        let answer = a.ask(&b.id, "gated", &[0; 1024]);
        let depth = a.links.snapshot()[0].queue_bytes;
        assert!(depth <= SMALL as u64, "{depth} bytes wait");
        sent.push(tokio::spawn(answer));
        tokio::task::yield_now().await;
    }
    // The peer has all it may have; another peer's requests are served as ever.
    b.handler.reached(50).await;
    c.echoes(&b.id).await;
    assert!(b.handler.begun() < 100, "{} begun", b.handler.begun());
    b.handler.gate.add_permits(1000);

    let mut answered = 0;
    for answer in sent {
        match soon("every request ends", answer).await.unwrap() {
            Ok(_) => answered += 1,
            Err(Unanswered::Overloaded { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{answered} answered, {refused} refused");
    assert!(answered >= 100 && refused >= 500);
    assert_eq!(b.handler.begun(), answered + 1);
}

#[tokio::test]
async fn a_link_that_is_forgotten_ends_in_order() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let open = a.ask(&b.id, "gated", b"x");
    b.handler.reached(1).await;

    a.links.forget(&b.id);
    b.handler.gate.add_permits(1);

    assert_eq!(soon("the answer", open).await, Ok(outcome(b"x")));
}

#[tokio::test]
async fn a_node_that_closes_answers_what_it_has_and_takes_nothing_new() {
    let (mut a, mut b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let open = a.ask(&b.id, "gated", b"x");
    b.handler.reached(1).await;
    let gate = b.handler.gate.clone();
    let b_peer = b.peer();

    let closing = tokio::spawn(async move {
        b.links.close(Duration::from_secs(30)).await;
        let gone = |event: &LinkEvent| match event {
            LinkEvent::Gone { why, .. } => Some(why.clone()),
            _ => None,
        };
        b.event("the end of the link", gone).await
    });
    let leaving = |event: &LinkEvent| matches!(event, LinkEvent::Leaving(_)).then_some(());
    a.event("the peer's word", leaving).await;
    let new = a.ask(&b_peer.id, "echo", b"y").await;
    let mut late = node("late").await;
    late.links.connect(b_peer);
    let refused = |event: &LinkEvent| match event {
        LinkEvent::Unreached { why, .. } => Some(why.clone()),
        _ => None,
    };
    let refused = late.event("no link to a leaving node", refused).await;
    gate.add_permits(1);

    assert!(matches!(new, Err(Unanswered::NotLinked(_))), "{new:?}");
    assert_eq!(refused, DialFailure::Leaving);
    assert_eq!(soon("the answer", open).await, Ok(outcome(b"x")));
    let end = soon("the end", closing).await.unwrap();
    assert_eq!(end, LinkEnd::Orderly);
}

#[tokio::test]
async fn a_bound_that_is_not_accepted_does_not_start() {
    let mut config = config();
    config.window_bytes = 1;

    let error = Links::bind(
        config,
        NodeId::new("a"),
        "127.0.0.1:0".parse().unwrap(),
        Rng::seeded(1),
    )
    .await
    .unwrap_err();

    assert!(error.to_string().contains("window_bytes"), "{error}");
}

#[tokio::test]
async fn a_port_is_taken_until_it_is_released() {
    let b = node("b").await;
    let address = b.links.local_address();
    let bind = || Links::bind(config(), NodeId::new("b"), address, Rng::seeded(1));

    b.links.close(Duration::from_secs(30)).await;
    let taken = bind().await;
    b.links.release().await;
    let free = bind().await;

    assert!(taken.unwrap_err().to_string().contains("cannot listen"));
    assert_eq!(free.unwrap().local_address(), address);
}
