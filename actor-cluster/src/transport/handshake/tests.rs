//! Both sides prove themselves or there is no link; a recorded proof is worth nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{DuplexStream, duplex};

use super::*;

fn key(secret: &str) -> Key {
    Key::new(&Secret::new(secret))
}

fn terms(formats: RangeInclusive<u16>) -> Terms {
    Terms {
        formats,
        window_bytes: 1 << 20,
        frame_bytes_max: 1 << 16,
    }
}

fn a() -> PeerId {
    PeerId::new("a", 3)
}

fn b() -> PeerId {
    PeerId::new("b", 5)
}

/// What differs from a good handshake between `a`, who dials, and `b`.
struct Case {
    secrets: [&'static str; 2],
    bindings: [&'static [u8]; 2],
    to: PeerId,
    formats: [RangeInclusive<u16>; 2],
    open: bool,
    purpose: Purpose,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            secrets: ["the cluster's secret"; 2],
            bindings: [b"channel"; 2],
            to: b(),
            formats: [1..=1, 1..=1],
            open: true,
            purpose: Purpose::Link,
        }
    }
}

type Ends = (
    Result<Agreed, DialFailure>,
    Result<(Agreed, Purpose), Rejected>,
);

impl Case {
    async fn run(&self) -> Ends {
        let (mut left, mut right) = duplex(4096);
        self.run_over(&mut left, &mut right).await
    }

    async fn run_over(&self, left: &mut DuplexStream, right: &mut DuplexStream) -> Ends {
        let [ours, theirs] = self.secrets.map(key);
        let [dialler, acceptor] = self.formats.clone().map(terms);
        let (me, purpose) = (a(), self.purpose);
        let [binding, other] = self.bindings;
        let dialling = dial(left, binding, &ours, &me, &self.to, purpose, &dialler);
        let accepting = accept(right, other, &theirs, || (b(), self.open), &acceptor);
        tokio::join!(dialling, accepting)
    }
}

#[tokio::test]
async fn two_nodes_with_one_secret_agree() {
    let (dialled, accepted) = Case::default().run().await;

    let (accepted, purpose) = accepted.unwrap();
    let dialled = dialled.unwrap();
    assert_eq!((&dialled.peer, &accepted.peer), (&b(), &a()));
    assert_eq!((dialled.format, accepted.format), (1, 1));
    assert_eq!(dialled.window_bytes, 1 << 20);
    assert_eq!(purpose, Purpose::Link);
}

#[tokio::test]
async fn a_wrong_secret_proves_nothing_to_either_side() {
    let case = Case {
        secrets: ["the cluster's secret", "another cluster's secret"],
        ..Case::default()
    };

    let (dialled, accepted) = case.run().await;

    assert_eq!(dialled, Err(DialFailure::Unauthenticated));
    assert!(matches!(accepted, Err(Rejected::Stranger(says)) if says == a()));
}

#[tokio::test]
async fn a_proof_is_worth_nothing_in_another_channel() {
    let case = Case {
        bindings: [b"channel", b"other"],
        ..Case::default()
    };

    let (dialled, accepted) = case.run().await;

    assert_eq!(dialled, Err(DialFailure::Unauthenticated));
    assert!(matches!(accepted, Err(Rejected::Stranger(_))));
}

#[tokio::test]
async fn another_life_of_a_node_says_so_and_proves_it() {
    for to in [PeerId::new("b", 4), PeerId::new("c", 5)] {
        let case = Case {
            to,
            ..Case::default()
        };

        let (dialled, accepted) = case.run().await;

        assert_eq!(dialled, Err(DialFailure::Other(b())));
        assert!(matches!(accepted, Err(Rejected::Told(_, Verdict::NotMe))));
    }
}

#[tokio::test]
async fn links_speak_the_lower_of_both_newest_formats() {
    let cases = [
        ([1..=1, 1..=3], Some(1)),
        ([1..=4, 2..=3], Some(3)),
        ([2..=2, 1..=5], Some(2)),
        ([1..=1, 2..=3], None),
        ([3..=4, 1..=2], None),
    ];

    for (formats, expected) in cases {
        let theirs = (*formats[1].start(), *formats[1].end());
        let case = Case {
            formats,
            ..Case::default()
        };

        let (dialled, accepted) = case.run().await;

        match expected {
            Some(format) => {
                assert_eq!(dialled.unwrap().format, format);
                assert_eq!(accepted.unwrap().0.format, format);
            }
            None => {
                assert_eq!(dialled, Err(DialFailure::Format { theirs }));
                assert!(matches!(accepted, Err(Rejected::Told(_, Verdict::Format))));
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_stops_takes_no_links_but_says_who_it_is() {
    for (purpose, welcome) in [(Purpose::Link, false), (Purpose::Probe, true)] {
        let case = Case {
            open: false,
            purpose,
            ..Case::default()
        };

        let (dialled, _) = case.run().await;

        let expected = if welcome {
            dialled.as_ref().is_ok_and(|agreed| agreed.peer == b())
        } else {
            dialled == Err(DialFailure::Leaving)
        };
        assert!(expected, "{purpose:?}: {dialled:?}");
    }
}

/// Runs a good handshake through a tap and returns what each side sent.
async fn recorded() -> (Vec<u8>, Vec<u8>) {
    let (mut left, tap_left) = duplex(4096);
    let (mut right, tap_right) = duplex(4096);
    let heard: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
    let (from_left, to_left) = tokio::io::split(tap_left);
    let (from_right, to_right) = tokio::io::split(tap_right);
    let pump = |mut from: tokio::io::ReadHalf<DuplexStream>,
                mut to: tokio::io::WriteHalf<DuplexStream>,
                heard: Arc<Mutex<Vec<u8>>>| {
        tokio::spawn(async move {
            let mut bytes = [0; 256];
            while let Ok(read @ 1..) = from.read(&mut bytes).await {
                heard.lock().unwrap().extend_from_slice(&bytes[..read]);
                to.write_all(&bytes[..read]).await.unwrap();
            }
        })
    };
    let pumps = [
        pump(from_left, to_right, heard[0].clone()),
        pump(from_right, to_left, heard[1].clone()),
    ];
    let (dialled, accepted) = Case::default().run_over(&mut left, &mut right).await;
    assert!(dialled.is_ok() && accepted.is_ok());
    drop((left, right));
    for pump in pumps {
        pump.await.unwrap();
    }
    let [left, right] = heard.map(|heard| heard.lock().unwrap().clone());
    (left, right)
}

#[tokio::test]
async fn a_recorded_dialler_is_a_stranger() {
    let (dialler, _) = recorded().await;
    let (mut left, mut right) = duplex(4096);
    left.write_all(&dialler).await.unwrap();

    let who = || (b(), true);
    let key = key("the cluster's secret");
    let accepted = accept(&mut right, b"channel", &key, who, &terms(1..=1)).await;

    assert!(matches!(accepted, Err(Rejected::Stranger(says)) if says == a()));
}

#[tokio::test]
async fn a_recorded_acceptor_is_not_believed() {
    let (_, acceptor) = recorded().await;
    let (mut left, mut right) = duplex(4096);
    right.write_all(&acceptor).await.unwrap();

    let key = key("the cluster's secret");
    let (me, to, purpose) = (a(), b(), Purpose::Link);
    let dialled = dial(
        &mut left,
        b"channel",
        &key,
        &me,
        &to,
        purpose,
        &terms(1..=1),
    )
    .await;

    assert_eq!(dialled, Err(DialFailure::Unauthenticated));
}

#[tokio::test]
async fn a_dialler_that_hears_itself_is_not_fooled() {
    let (mut left, right) = duplex(4096);
    let echo = tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(right);
        tokio::io::copy(&mut from, &mut to).await
    });

    let key = key("the cluster's secret");
    let (me, purpose) = (a(), Purpose::Link);
    let dialled = dial(&mut left, b"", &key, &me, &me, purpose, &terms(1..=1)).await;

    assert!(
        matches!(
            dialled,
            Err(DialFailure::Unauthenticated | DialFailure::Garbage(_))
        ),
        "{dialled:?}"
    );
    drop(left);
    echo.await.unwrap().unwrap();
}

#[tokio::test]
async fn whatever_strangers_say_is_refused() {
    let long = [&MAGIC[..], &[0xff, 0xff]].concat();
    let nonsense = [&MAGIC[..], &[0, 4, 1, 2, 3, 4]].concat();
    let corpus: [(&str, &[u8]); 7] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("TLS", &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
        ("one wrong byte", b"X"),
        ("half of the magic", b"AL"),
        ("a message too long", &long),
        ("a message that is no hello", &nonsense),
        ("zeros", &[0; 64]),
    ];

    for (what, bytes) in corpus {
        let (mut left, mut right) = duplex(4096);
        left.write_all(bytes).await.unwrap();
        left.shutdown().await.unwrap();

        let who = || (b(), true);
        let key = key("the cluster's secret");
        let accepted = accept(&mut right, b"", &key, who, &terms(1..=1)).await;

        assert!(
            matches!(accepted, Err(Rejected::Garbage(_))),
            "{what}: {accepted:?}"
        );
    }
}

#[tokio::test]
async fn one_who_leaves_without_a_word_is_no_trouble() {
    let (left, mut right) = duplex(64);
    drop(left);

    let key = key("the cluster's secret");
    let accepted = accept(&mut right, b"", &key, || (b(), true), &terms(1..=1)).await;

    assert!(matches!(accepted, Err(Rejected::Silent)), "{accepted:?}");
}
