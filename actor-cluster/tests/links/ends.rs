//! How links end, what becomes of open requests, and that links come back.

use std::time::Duration;

use actor_cluster::transport::{
    DialFailure, LinkConfig, LinkEnd, LinkEvent, PeerId, Transport, Unanswered,
};

use crate::{
    kit::{TestNode, config, node, node_with, outcome, soon},
    proxy::Proxy,
};

fn down(event: &LinkEvent) -> Option<LinkEnd> {
    match event {
        LinkEvent::Down { why, .. } => Some(why.clone()),
        _ => None,
    }
}

fn gone(event: &LinkEvent) -> Option<LinkEnd> {
    match event {
        LinkEvent::Gone { why, .. } => Some(why.clone()),
        _ => None,
    }
}

/// Bounds under which silence is noticed soon.
fn quick(config: &mut LinkConfig) {
    config.heartbeat = Duration::from_millis(50);
    config.silence = Duration::from_millis(500);
}

#[tokio::test]
async fn a_cut_inside_a_frame_ends_the_link_and_every_open_request() {
    let (mut a, mut b) = (node("a").await, node("b").await);
    let proxy = Proxy::start(b.links.local_address()).await;
    a.link(b.peer_at(proxy.address)).await;
    let begun: Vec<_> = (0..10).map(|n| a.ask(&b.id, "gated", &[n])).collect();
    b.handler.reached(10).await;

    proxy.cut_after(100);
    let torn = a.ask(&b.id, "echo", &[0; 1000]);

    for open in begun.into_iter().chain([torn]) {
        let why = soon("an end", open).await.unwrap_err();
        assert!(matches!(why, Unanswered::Lost(_)), "{why:?}");
        assert_eq!(why.refusal().kind(), "unknown_outcome");
    }
    let (here, there) = (a.event("down", down).await, b.event("gone", gone).await);
    assert!(matches!(here, LinkEnd::Cut(_)), "{here:?}");
    assert!(
        matches!(&there, LinkEnd::Cut(why) if why.contains("inside a frame")),
        "{there:?}"
    );
    assert_eq!(b.handler.begun(), 10, "half a request is none");
}

#[tokio::test]
async fn a_cut_link_comes_back() {
    let (mut a, b) = (node("a").await, node("b").await);
    let proxy = Proxy::start(b.links.local_address()).await;
    a.link(b.peer_at(proxy.address)).await;

    for round in 1..=3 {
        proxy.cut();
        a.event("down", down).await;
        a.up(&b.id).await;

        a.echoes(&b.id).await;
        let link = a.links.snapshot().remove(0);
        assert_eq!(link.reconnects, round);
        assert!(link.trouble.is_some_and(|why| why.contains("cut")));
    }
}

// TRN-1
#[tokio::test]
async fn an_answer_lost_on_the_way_back_is_unknown_and_not_asked_again() {
    let (mut a, mut b) = (node_with("a", quick).await, node_with("b", quick).await);
    let proxy = Proxy::start(b.links.local_address()).await;
    a.link(b.peer_at(proxy.address)).await;

    proxy.mute();
    let answer = soon("an end", a.ask(&b.id, "echo", b"x")).await;

    assert!(matches!(answer, Err(Unanswered::Lost(_))), "{answer:?}");
    assert_eq!(a.event("down", down).await, LinkEnd::Silence);
    // The other side learns of it by the connection's end, or by silence.
    b.event("gone", gone).await;
    proxy.heal();
    a.up(&b.id).await;
    a.echoes(&b.id).await;
    let begun = b.handler.begun.lock().unwrap().clone();
    assert_eq!(begun, [b"x".to_vec(), b"hello".to_vec()], "once each");
}

#[tokio::test]
async fn a_dead_node_is_seen_by_a_refused_dial_after_a_link() {
    let mut a = node("a").await;
    let b = node("b").await;
    a.link(b.peer()).await;
    let open = a.ask(&b.id, "gated", b"x");
    b.handler.reached(1).await;

    drop(b);

    let why = soon("an end", open).await.unwrap_err();
    assert!(matches!(why, Unanswered::Lost(_)), "{why:?}");
    let evidence = |event: &LinkEvent| match event {
        LinkEvent::Unreached {
            peer,
            why: DialFailure::Refused,
            had_link,
        } => Some((peer.clone(), *had_link)),
        _ => None,
    };
    let (peer, had_link) = a.event("a refused dial", evidence).await;
    assert_eq!((peer, had_link), (PeerId::new("b", 1), true));
}

#[tokio::test]
async fn a_restarted_node_is_seen_by_its_new_life_and_serves_under_it() {
    let mut a = node("a").await;
    let b = node("b").await;
    let address = b.links.local_address();
    a.link(b.peer()).await;

    b.links.release().await;
    let b = TestNode::start("b", 2, address, config()).await;

    let evidence = |event: &LinkEvent| match event {
        LinkEvent::Unreached {
            why: DialFailure::Other(other),
            had_link,
            ..
        } => Some((other.clone(), *had_link)),
        _ => None,
    };
    let (other, had_link) = a.event("another life answers", evidence).await;
    assert_eq!((&other, had_link), (&b.id, true));
    a.links.forget(&PeerId::new("b", 1));
    a.link(b.peer()).await;
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn evidence_needs_a_link_that_was_up() {
    let mut a = node("a").await;
    let peer = node("b").await.peer();

    a.links.connect(peer);

    let had_link = |event: &LinkEvent| match event {
        LinkEvent::Unreached { had_link, .. } => Some(*had_link),
        _ => None,
    };
    assert!(!a.event("a failed dial", had_link).await);
}

#[tokio::test]
async fn a_peer_that_dials_anew_replaces_its_link() {
    let (mut a, mut b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let again = TestNode::start("a", 1, "127.0.0.1:0".parse().unwrap(), config()).await;

    again.links.connect(b.peer());

    assert_eq!(b.event("gone", gone).await, LinkEnd::Replaced);
    a.links.forget(&b.id);
}

#[tokio::test]
async fn requests_in_flight_at_a_cut_end_once_each_under_load() {
    let (mut a, b) = (node("a").await, node("b").await);
    let proxy = Proxy::start(b.links.local_address()).await;
    a.link(b.peer_at(proxy.address)).await;
    let asking: Vec<_> = (0..500_u16)
        .map(|n| a.ask(&b.id, "echo", &n.to_be_bytes()))
        .collect();
    b.handler.reached(1).await;

    proxy.cut();

    let (mut answered, mut lost, mut unsent) = (0, 0, 0);
    for (n, answer) in asking.into_iter().enumerate() {
        match soon("an end", answer).await {
            Ok(answer) => {
                assert_eq!(answer, outcome(&(n as u16).to_be_bytes()));
                answered += 1;
            }
            Err(Unanswered::Lost(_)) => lost += 1,
            Err(Unanswered::NotLinked(_)) => unsent += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("{answered} answered, {lost} lost, {unsent} unsent");
    assert_eq!(answered + lost + unsent, 500);
    assert!(
        b.handler.begun() <= answered + lost,
        "unsent ones never began"
    );
}

#[tokio::test]
async fn nobody_waits_for_a_link_that_was_dropped() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let open = a.ask(&b.id, "gated", b"x");
    b.handler.reached(1).await;

    a.links.release().await;

    let why = soon("an end", open).await.unwrap_err();
    assert!(matches!(why, Unanswered::Lost(_)), "{why:?}");
}
