//! Who may not link up: strangers of every kind cost their own connection and nothing else.

use std::time::Duration;

use actor_cluster::{
    node::Secret,
    transport::{DialFailure, LinkConfig, LinkEnd, LinkEvent, PeerId, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::kit::{TestNode, config, node, node_with, soon};

fn unreached(event: &LinkEvent) -> Option<DialFailure> {
    match event {
        LinkEvent::Unreached { why, .. } => Some(why.clone()),
        _ => None,
    }
}

/// Connects, says `bytes`, and waits until the node hangs up.
async fn say(to: &TestNode, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to.links.local_address())
        .await
        .expect("the node listens");
    // The node may hang up before everything is written.
    let _ = stream.write_all(bytes).await;
    soon("the node hangs up", hung_up(&mut stream)).await;
}

async fn hung_up(stream: &mut TcpStream) {
    let mut bytes = [0; 256];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

#[tokio::test]
async fn a_node_with_another_secret_is_turned_away() {
    let (mut a, b) = (node("a").await, node("b").await);
    let mut stranger = node_with("c", |it| it.secret = Secret::new("some other secret")).await;
    a.link(b.peer()).await;

    stranger.links.connect(b.peer());
    let why = stranger.event("a refusal", unreached).await;

    assert_eq!(why, DialFailure::Unauthenticated);
    assert_eq!(b.links.snapshot().len(), 1, "only the link of a");
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn an_impostor_who_answers_for_a_node_is_not_believed() {
    let impostor = node_with("b", |it| it.secret = Secret::new("some other secret")).await;
    let mut a = node("a").await;

    a.links.connect(impostor.peer());

    let why = a.event("a refusal", unreached).await;
    assert_eq!(why, DialFailure::Unauthenticated);
    assert_eq!(impostor.handler.begun(), 0);
}

#[tokio::test]
async fn garbage_on_the_port_costs_only_its_connection() {
    let (mut a, b) = (node("a").await, node("b").await);
    a.link(b.peer()).await;
    let long = [&b"ALK1"[..], &[0xff, 0xff], &[7; 4096]].concat();
    let corpus: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nhost: example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0; 512],
        &[0xff; 512],
        b"ALK1\x00\x04\x01\x02\x03\x04",
        &long,
    ];

    for bytes in corpus {
        say(&b, bytes).await;
    }

    a.echoes(&b.id).await;
    assert_eq!(b.links.snapshot().len(), 1);
}

#[tokio::test]
async fn one_who_says_nothing_or_stops_half_way_is_hung_up_on() {
    let quick = |it: &mut LinkConfig| it.handshake_timeout = Duration::from_millis(100);
    let b = node_with("b", quick).await;

    for half in [&b""[..], b"ALK1", b"ALK1\x00\xff\x01"] {
        say(&b, half).await;
    }

    let mut a = node("a").await;
    a.link(b.peer()).await;
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn a_crowd_of_stalled_arrivals_does_not_keep_a_node_out() {
    let few = |it: &mut LinkConfig| {
        it.handshakes_max = 4;
        // Nobody is helped by the time limit.
        it.handshake_timeout = Duration::from_secs(60);
    };
    let b = node_with("b", few).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(b.links.local_address()).await.unwrap());
    }

    let mut a = node("a").await;
    a.link(b.peer()).await;

    a.echoes(&b.id).await;
    // The oldest made room.
    soon("the oldest is hung up on", hung_up(&mut crowd[0])).await;
}

#[tokio::test]
async fn another_life_or_another_node_at_the_address_is_noticed() {
    let mut a = node("a").await;
    let b = TestNode::start("b", 7, "127.0.0.1:0".parse().unwrap(), config()).await;
    for wanted in [PeerId::new("b", 6), PeerId::new("c", 7)] {
        let mut peer = b.peer();
        peer.id = wanted.clone();

        a.links.connect(peer.clone());
        let why = a.event("a refusal", unreached).await;
        let probed = a.links.probe(peer).await;

        assert_eq!(why, DialFailure::Other(PeerId::new("b", 7)));
        assert_eq!(probed, Err(DialFailure::Other(PeerId::new("b", 7))));
        a.links.forget(&wanted);
    }
    assert_eq!(a.links.probe(b.peer()).await, Ok(b.id.clone()));
}

#[tokio::test]
async fn a_node_that_is_not_registered_yet_says_its_name_and_takes_no_links() {
    let links = actor_cluster::transport::Links::bind(
        config(),
        actor_core::NodeId::new("b"),
        "127.0.0.1:0".parse().unwrap(),
        actor_core::clock::Rng::seeded(1),
    );
    let links = links.await.unwrap();
    let a = node("a").await;
    let peer = |incarnation| actor_cluster::transport::Peer {
        id: PeerId::new("b", incarnation),
        address: links.local_address().to_string().into(),
    };

    let unborn = DialFailure::Other(PeerId::new("b", 0));
    assert_eq!(a.links.probe(peer(3)).await, Err(unborn));
    assert_eq!(a.links.probe(peer(0)).await, Ok(PeerId::new("b", 0)));
}

#[tokio::test]
async fn programs_of_two_versions_speak_the_older_format_or_none() {
    let newer = node_with("new", |it| it.formats = 1..=2).await;
    let newest = node_with("newest", |it| it.formats = 2..=3).await;
    let mut older = node("old").await;

    older.link(newer.peer()).await;
    older.echoes(&newer.id).await;
    older.links.connect(newest.peer());
    let why = older.event("a refusal", unreached).await;
    let mut newest = newest;
    newest.links.connect(older.peer());
    let back = newest.event("a refusal", unreached).await;

    assert_eq!(why, DialFailure::Format { theirs: (2, 3) });
    assert_eq!(back, DialFailure::Format { theirs: (1, 1) });
}

#[tokio::test]
async fn an_authenticated_peer_that_sends_oversize_frames_loses_its_link() {
    // What one node may send is more than the other says it reads; the first ignores it by way of
    // a larger bound of its own, which the second must not trust.
    let mut b = node_with("b", |it| {
        it.frame_bytes_max = 1024;
        it.batch_bytes = 1024;
    })
    .await;
    let proxy = crate::proxy::Proxy::start(b.links.local_address()).await;
    let mut a = node("a").await;
    a.link(b.peer_at(proxy.address)).await;

    proxy.inject(&[0x7f, 0xff, 0xff, 0xff, 0]);

    let gone = |event: &LinkEvent| match event {
        LinkEvent::Gone { why, .. } => Some(why.clone()),
        _ => None,
    };
    let why = b.event("the end of the link", gone).await;
    assert!(matches!(why, LinkEnd::Garbage(_)), "{why:?}");
    a.up(&b.id).await;
    a.echoes(&b.id).await;
}
