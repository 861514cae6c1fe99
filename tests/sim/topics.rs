//! What listeners of a topic get, however its events travel: each once, in order, without a gap.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use actor_cluster::sim::{self, Fault, Sim, Traffic};
use actor_core::{
    Ctx, Entity, Event, handlers,
    store::Sql,
    topic::{Position, TopicEvent},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// The topic of all criers.
const NEWS: &str = "news";

/// Something was cried.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "news")]
struct Cried {
    what: u64,
}

/// Publishes with its commits, so from the node that owns it.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Crier {
    cries: u64,
}

#[handlers]
impl Crier {
    /// Publishes what it is told.
    pub async fn cry(&mut self, what: u64, ctx: &mut Ctx<Self>) {
        self.cries += 1;
        let cried = ctx.publish(Cried { what }).await;
        cried.expect("it becomes part of the commit");
    }

    /// Publishes several at once.
    pub async fn cry_often(&mut self, times: u64, ctx: &mut Ctx<Self>) {
        for what in 0..times {
            self.cry(what, ctx).await;
        }
    }
}

/// What a listener got: the places of the events, and when it got them. An end has place 0.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<(u64, Duration)>>>);

impl Heard {
    fn offsets(&self) -> Vec<u64> {
        let heard = self.0.lock().expect("no panic");
        heard.iter().map(|(offset, _)| *offset).collect()
    }

    fn last_at(&self) -> Duration {
        let heard = self.0.lock().expect("no panic");
        heard.last().expect("something was heard").1
    }

    fn add(&self, event: Option<&TopicEvent>, at: Duration) {
        let mut heard = self.0.lock().expect("no panic");
        heard.push((event.map_or(0, |event| event.position.offset), at));
    }
}

/// Listens at a node until the subscription ends.
async fn listen(sim: &Sim, node: usize, topic: &'static str) -> Heard {
    let heard = Heard::default();
    let (to, clock) = (heard.clone(), sim.clone());
    let listening = sim.run_on(node, move |node| async move {
        let subscribed = node.client().subscribe(topic, None).await;
        let mut subscription = subscribed.expect("listens").subscription;
        tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                to.add(Some(&event), clock.now());
            }
            to.add(None, clock.now());
        });
    });
    listening.await.expect("the node is up");
    heard
}

/// Returns a crier that this node owns.
fn crier_of(sim: &Sim, node: usize) -> String {
    let mut names = (0..).map(|number| format!("crier {number}"));
    let owned = names.find(|name| sim.owner::<Crier>(name) == Some(node));
    owned.expect("it owns some of all shards")
}

/// Has a crier of the node cry, from inside the node.
async fn cry(sim: &Sim, node: usize, times: u64) {
    let name = crier_of(sim, node);
    let cried = sim.run_on(node, move |node| async move {
        node.client().entity::<Crier>(name).cry_often(times).await
    });
    assert_eq!(cried.await, Ok(Ok(())));
}

/// Has everything between nodes get lost while a crier of `node` cries.
async fn cry_unheard(sim: &Sim, node: usize, times: u64) {
    sim.traffic(Traffic::default().lose(100));
    cry(sim, node, times).await;
    sim.advance(SECOND / 20).await;
    sim.traffic(Traffic::default());
}

/// A note that is lost leaves a gap that the next event shows.
#[sim::test(nodes = 2, host(Crier), seeds = 4)]
async fn an_event_that_was_lost_on_its_way_comes_before_the_next_one(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 1, NEWS).await;
    cry(&sim, 0, 1).await;
    sim.advance(SECOND).await;

    sim.block(0, 1);
    sim.cut_links(0, 1);
    cry(&sim, 0, 1).await;
    sim.heal();
    sim.advance(SECOND / 2).await;
    cry(&sim, 0, 1).await;
    sim.advance(SECOND).await;

    assert_eq!(heard.offsets(), [1, 2, 3]);
}

/// More than is read at once, and more than a listener can have before it.
#[sim::test(nodes = 2, host(Crier), seeds = 4)]
async fn however_many_events_were_lost_they_come_in_order(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 1, NEWS).await;

    cry_unheard(&sim, 0, 300).await;
    cry(&sim, 0, 1).await;
    sim.advance(SECOND).await;

    let all: Vec<_> = (1..=301).collect();
    assert_eq!(heard.offsets(), all);
}

/// Its listeners know events that are gone: they must hear of that instead of going on.
#[sim::test(nodes = 1, host(Crier), seeds = 4)]
async fn a_listener_of_a_topic_that_is_numbered_anew_is_cut_off(sim: Sim) {
    const GONE: Sql = Sql::same("DELETE FROM streams");
    const EVENTS_GONE: Sql = Sql::same("DELETE FROM events");
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 0, NEWS).await;
    cry(&sim, 0, 1).await;

    let forget = sim.store().write("forget", |c| {
        Box::pin(async move {
            c.execute(&GONE, vec![]).await?;
            c.execute(&EVENTS_GONE, vec![]).await
        })
    });
    forget.await.expect("it forgets");
    cry(&sim, 0, 2).await;
    sim.advance(SECOND).await;

    assert_eq!(heard.offsets(), [1, 0]);
}

/// The history may be longer than what is read at once: nothing of it is left out.
#[sim::test(nodes = 1, host(Crier))]
async fn a_listener_that_comes_back_late_gets_everything_between_history_and_now(sim: Sim) {
    sim.advance(5 * SECOND).await;
    for _ in 0..3 {
        cry(&sim, 0, 400).await;
    }

    let got = sim.run_on(0, |node| async move {
        let (mut since, mut got) = (Position::default(), Vec::new());
        for _ in 0..2 {
            let subscribed = node.client().subscribe(NEWS, Some(since)).await;
            let mut subscribed = subscribed.expect("listens");
            assert!(subscribed.recovered);
            got.extend(subscribed.backlog.iter().map(|event| event.position.offset));
            let last = subscribed.backlog.last().expect("it is behind");
            since = last.position;
            if since.offset < subscribed.position.offset {
                let mut now = Context::from_waker(Waker::noop());
                let next = subscribed.subscription.poll_next(&mut now);
                assert_eq!(next, Poll::Ready(None), "it is told that it lagged");
            }
        }
        got
    });

    let all: Vec<_> = (1..=1200).collect();
    assert_eq!(got.await, Ok(all));
}

/// Nothing comes after it that would show the gap.
#[sim::test(nodes = 2, host(Crier), seeds = 4)]
async fn the_last_event_comes_within_seconds_though_its_note_was_lost(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 1, NEWS).await;
    cry(&sim, 0, 1).await;
    sim.advance(SECOND).await;

    let stored = sim.now();
    cry_unheard(&sim, 0, 1).await;
    sim.advance(5 * SECOND).await;

    assert_eq!(heard.offsets(), [1, 2]);
    let late = heard.last_at() - stored;
    assert!(late < 4 * SECOND, "{late:?}");
}

/// Also the first event of a topic, that was not there when somebody began to listen.
#[sim::test(nodes = 2, host(Crier), seeds = 4)]
async fn the_first_event_of_a_topic_comes_though_its_note_was_lost(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 1, NEWS).await;

    cry_unheard(&sim, 0, 1).await;
    sim.advance(4 * SECOND).await;

    assert_eq!(heard.offsets(), [1]);
}

/// Nobody announces what may be stored or not; it is stored.
#[sim::test(nodes = 1, host(Crier), seeds = 4)]
async fn an_event_of_a_commit_whose_end_was_unclear_reaches_its_listeners(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let heard = listen(&sim, 0, NEWS).await;

    sim.fault(0, Fault::fail_after().only("commit"));
    let unclear = sim.run_on(0, |node| async move {
        node.client().entity::<Crier>("a").cry(1).await
    });
    assert!(unclear.await.expect("it is up").is_err());
    sim.advance(4 * SECOND).await;
    assert_eq!(heard.offsets(), [1]);
    cry(&sim, 0, 1).await;
    sim.advance(SECOND).await;

    assert_eq!(heard.offsets(), [1, 2]);
}

/// Has the criers of both nodes cry side by side, without end between.
async fn cry_at_both(sim: &Sim, rounds: u64) {
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (sim, name) = (sim.clone(), format!("crier {number}"));
            tokio::spawn(async move {
                for what in 0..rounds {
                    let crier = sim.entity::<Crier>(&name);
                    crier.cry(what).await.expect("it cries");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Two nodes publish; what one of them stored later may be here first.
#[sim::test(nodes = 2, host(Crier), seeds = 6)]
async fn events_of_two_nodes_come_in_order(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let owners: Vec<_> = (0..8)
        .map(|number| sim.owner::<Crier>(format!("crier {number}")))
        .collect();
    assert!(owners.contains(&Some(0)) && owners.contains(&Some(1)));
    let (here, there) = (listen(&sim, 0, NEWS).await, listen(&sim, 1, NEWS).await);

    cry_at_both(&sim, 30).await;
    sim.advance(5 * SECOND).await;

    let all: Vec<_> = (1..=240).collect();
    assert_eq!(here.offsets(), all);
    assert_eq!(there.offsets(), all);
}

/// A network that loses, doubles and overtakes changes nothing of it.
#[sim::test(nodes = 2, host(Crier), seeds = 4)]
async fn a_network_that_mixes_notes_up_mixes_no_listener_up(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let (here, there) = (listen(&sim, 0, NEWS).await, listen(&sim, 1, NEWS).await);

    let names: Vec<_> = (0..2).map(|node| crier_of(&sim, node)).collect();
    let late = Duration::from_millis(300);
    sim.traffic(Traffic::default().lose(5).double(20).delay(30, late));
    for what in 0..100 {
        for (node, name) in names.iter().cloned().enumerate() {
            let cried = sim.run_on(node, move |node| async move {
                node.client().entity::<Crier>(name).cry(what).await
            });
            assert_eq!(cried.await, Ok(Ok(())));
        }
    }
    sim.traffic(Traffic::default());
    sim.advance(5 * SECOND).await;

    let all: Vec<_> = (1..=200).collect();
    assert_eq!(here.offsets(), all);
    assert_eq!(there.offsets(), all);
}

/// Whoever looks for lost events asks for all topics at once, and only if somebody listens.
#[sim::test(nodes = 1, host(Crier))]
async fn looking_for_lost_events_costs_a_statement_however_many_topics_there_are(sim: Sim) {
    let calls_in_a_minute = async || {
        let before = sim.store_calls(0);
        sim.advance(60 * SECOND).await;
        sim.store_calls(0) - before
    };
    sim.advance(5 * SECOND).await;
    let unheard = calls_in_a_minute().await;

    let listening = sim.run_on(0, |node| async move {
        let mut listening = Vec::new();
        for number in 0..500 {
            let subscribed = node.client().subscribe(&format!("t{number}"), None).await;
            listening.push(subscribed.expect("listens"));
        }
        listening
    });
    let _listening = listening.await.expect("it is up");
    let heard = calls_in_a_minute().await;

    assert!(heard > unheard + 15, "{heard} calls, {unheard} before");
    assert!(heard < unheard + 50, "{heard} calls, {unheard} before");
}
