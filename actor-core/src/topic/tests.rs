//! What listeners of one node are told, and what is left behind.

use std::task::{Context, Poll, Waker};

use super::*;

fn event(topic: &str, offset: u64) -> Arc<TopicEvent> {
    Arc::new(TopicEvent {
        topic: topic.into(),
        position: at(offset),
        name: "said".into(),
        data: Arc::default(),
    })
}

fn at(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

/// Listens to a topic that stood at `offset` when it was read.
fn listen(topics: &Arc<Topics>, topic: &str, offset: u64) -> Subscription {
    let mut subscription = topics.listen(&topic.into());
    subscription.begin(at(offset), at(offset));
    subscription
}

/// Returns the offsets that are there, and whether the listener was cut off behind them.
fn got(subscription: &mut Subscription) -> (Vec<u64>, bool) {
    let (mut offsets, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
    loop {
        match subscription.poll_next(&mut cx) {
            Poll::Ready(Some(event)) => offsets.push(event.position.offset),
            Poll::Ready(None) => return (offsets, true),
            Poll::Pending => return (offsets, false),
        }
    }
}

fn history(offsets: std::ops::RangeInclusive<u64>, recovered: bool) -> History {
    History {
        position: at(*offsets.end()),
        recovered,
        events: offsets.map(|offset| event("t", offset)).collect(),
    }
}

#[test]
fn topics_that_nobody_asks_for_leave_nothing_behind() {
    let topics = Arc::new(Topics::default());
    let name = Arc::<str>::from("t7");
    let (asked, twice) = (topics.numbering(&name), topics.numbering(&name));

    for number in 0..100 {
        topics.announce(&event(&format!("t{number}"), 1));
    }

    assert_eq!(topics.lock_numberings().len(), 1);
    drop(asked);
    assert_eq!(twice.epoch(), 7);
    drop(twice);
    assert!(topics.lock_numberings().is_empty());
}

#[test]
fn a_topic_without_listeners_leaves_nothing_behind() {
    let topics = Arc::new(Topics::default());
    let listener = listen(&topics, "t", 0);
    topics.announce(&event("t", 2));
    assert_eq!(topics.lock().missing.len(), 1);

    drop(listener);

    let (late, next) = topics.late(Clock.now());
    assert_eq!((late.len(), next), (0, None));
    let audiences = topics.lock();
    assert!(audiences.of.is_empty() && audiences.missing.is_empty());
}

#[test]
fn what_was_lost_is_told_before_what_came_early() {
    let topics = Arc::new(Topics::default());
    let (mut first, mut second) = (listen(&topics, "t", 3), listen(&topics, "t", 4));
    topics.announce(&event("t", 6));

    topics.recalled(&"t".into(), at(3), &history(4..=5, true));

    assert_eq!(got(&mut first), (vec![4, 5, 6], false));
    assert_eq!(got(&mut second), (vec![5, 6], false));
}

#[test]
fn a_history_that_is_gone_cuts_listeners_off_unless_they_got_it_meanwhile() {
    for came_meanwhile in [false, true] {
        let topics = Arc::new(Topics::default());
        let mut listener = listen(&topics, "t", 3);
        topics.announce(&event("t", 5));
        if came_meanwhile {
            topics.announce(&event("t", 4));
        }

        topics.recalled(&"t".into(), at(3), &history(5..=5, false));

        let expected = match came_meanwhile {
            true => (vec![4, 5], false),
            false => (vec![], true),
        };
        assert_eq!(got(&mut listener), expected);
    }
}

#[test]
fn a_listener_that_read_less_than_the_first_one_learns_that_it_lagged() {
    let topics = Arc::new(Topics::default());
    let topic = Arc::<str>::from("t");
    let (mut first, mut second) = (topics.listen(&topic), topics.listen(&topic));
    topics.announce(&event("t", 6));

    first.begin(at(6), at(6));
    second.begin(at(5), at(5));
    topics.announce(&event("t", 7));

    assert_eq!(got(&mut first), (vec![7], false));
    assert_eq!(got(&mut second), (vec![], true));
}

#[test]
fn a_full_queue_cuts_its_listener_off_and_no_other() {
    let topics = Arc::new(Topics::default());
    let (mut slow, mut quick) = (listen(&topics, "t", 0), listen(&topics, "t", 0));
    let most = SUBSCRIBER_QUEUE as u64;

    for offset in 1..=most + 1 {
        topics.announce(&event("t", offset));
        assert_eq!(got(&mut quick), (vec![offset], false));
    }

    assert_eq!(got(&mut slow), ((1..=most).collect(), true));
}
