//! Groups of shards: some nodes host only some kinds, others the rest, and all reach all.

use std::{collections::BTreeSet, time::Duration};

use actor_cluster::{
    Node,
    sim::{self, Sim},
};
use actor_core::{CallError, Client, Ctx, Entity, Event, Failure, Invocation, Refusal, handlers};
use actor_workflow::{Run, Saga, SagaClient, SagaError, Workflow};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// As long as a lease, and some.
const PATIENCE: Duration = Duration::from_secs(40);

/// The nodes of the group `media`; the others host what is in no group.
const MEDIA: [usize; 2] = [3, 4];

/// A cart was closed.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "carts", key = clip)]
struct Closed {
    clip: String,
}

/// Is in no group.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Cart {
    items: u64,
}

#[handlers]
impl Cart {
    /// Adds an item and returns how many there are.
    pub fn add(&mut self) -> u64 {
        self.items += 1;
        self.items
    }

    /// Plays a clip and returns how often it was.
    pub async fn watch(&self, clip: String, ctx: &mut Ctx<Self>) -> Result<u64, String> {
        let plays = ctx.entity::<Clip>(clip).play().await;
        plays.map_err(|error| error.to_string())
    }

    /// Has a clip played twice, now and in a second, by stored messages.
    pub async fn send(&mut self, clip: String, ctx: &mut Ctx<Self>) {
        self.items += 1;
        let clip = ctx.entity::<Clip>(clip);
        clip.play().cast().await.expect("part of the commit");
        clip.play().after(SECOND).await.expect("part of the commit");
    }

    /// Announces that it was closed.
    pub async fn close(&mut self, clip: String, ctx: &mut Ctx<Self>) {
        self.items = 0;
        let closed = ctx.publish(Closed { clip }).await;
        closed.expect("part of the commit");
    }
}

/// Is where there is much memory.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, group = "media", expose)]
struct Clip {
    plays: u64,
    closed: u64,
}

#[handlers]
impl Clip {
    /// Plays it and returns how often it was played.
    pub fn play(&mut self) -> u64 {
        self.plays += 1;
        self.plays
    }

    /// Returns how often it was played, and how many carts with it were closed.
    pub fn seen(&self) -> (u64, u64) {
        (self.plays, self.closed)
    }

    /// Adds to a cart.
    pub async fn add_to(&self, cart: String, ctx: &mut Ctx<Self>) -> u64 {
        let items = ctx.entity::<Cart>(cart).add().await;
        items.expect("the cart answers")
    }

    /// Counts carts that were closed.
    #[on]
    async fn closed(&mut self, _: Closed) {
        self.closed += 1;
    }
}

/// Is there, too, and keeps nothing.
#[derive(Debug, Default, Entity)]
#[entity(group = "media")]
struct Screen {
    lit: bool,
}

#[handlers]
impl Screen {
    pub fn light(&mut self) {
        self.lit = true;
    }

    pub fn is_lit(&self) -> bool {
        self.lit
    }
}

/// Is hosted by nobody.
#[derive(Debug, Default, Entity)]
#[entity(group = "media")]
struct Ghost;

#[handlers]
impl Ghost {
    pub fn haunt(&self) {}
}

/// Is carried out where the clips are and reaches carts from there.
#[derive(Debug, Workflow, Serialize, Deserialize)]
#[workflow(output = u64, group = "media")]
struct Trailer {
    clip: String,
    cart: String,
}

impl Run for Trailer {
    async fn run(&self, saga: &mut Saga) -> actor_core::Result<u64> {
        let plays = saga
            .step("play", |step| async move {
                let played = step.entity::<Clip>(&self.clip).play().await;
                played.map_err(|error| Failure::fatal("clip", error.to_string()))
            })
            .await?;
        saga.sleep(SECOND).await;
        saga.step("add", |step| async move {
            let added = step.entity::<Cart>(&self.cart).add().await;
            added.map_err(|error| Failure::fatal("cart", error.to_string()))
        })
        .await?;
        Ok(plays)
    }
}

/// Lets three nodes host the cart and two the rest.
fn split(sim: &Sim) {
    for node in 0..sim.nodes() {
        match MEDIA.contains(&node) {
            true => sim.host_on::<(Clip, Screen, Trailer)>(node),
            false => sim.host_on::<Cart>(node),
        }
    }
}

/// Runs something with the client of a node.
async fn at<T, F, R>(sim: &Sim, node: usize, run: F) -> T
where
    T: Send + 'static,
    F: FnOnce(Client) -> R + Send + 'static,
    R: Future<Output = T> + Send + 'static,
{
    let answer = sim.run_on(node, |node: Node| run(node.client())).await;
    answer.unwrap_or_else(|broken| panic!("node {node}: {broken}"))
}

fn owners<K: actor_core::Handlers>(sim: &Sim) -> BTreeSet<Option<usize>> {
    (0..64).map(|id| sim.owner::<K>(id)).collect()
}

fn nodes<const N: usize>(nodes: [usize; N]) -> BTreeSet<Option<usize>> {
    nodes.into_iter().map(Some).collect()
}

// SHD-12
#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 6)]
async fn nodes_own_shards_of_the_groups_whose_kinds_they_host(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;

    assert_eq!(owners::<Cart>(&sim), nodes([0, 1, 2]));
    assert_eq!(owners::<Clip>(&sim), nodes(MEDIA));
    assert_eq!(owners::<Screen>(&sim), nodes(MEDIA));
}

#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 6)]
async fn calls_reach_kinds_that_the_callers_node_does_not_host(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;

    for (node, count) in (0..5).zip(1..) {
        let played = at(&sim, node, |client| async move {
            client.entity::<Clip>("a").play().await
        });
        assert_eq!(played.await, Ok(count), "from node {node}");
        let added = at(&sim, node, |client| async move {
            client.entity::<Cart>("a").add().await
        });
        assert_eq!(added.await, Ok(count), "from node {node}");
    }
    // From inside handlers, both ways.
    let watched = sim.entity::<Cart>("a").watch("a".into()).await;
    assert_eq!(watched, Ok(6));
    assert_eq!(sim.entity::<Clip>("a").add_to("a".into()).await, Ok(6));
    // By name only, as gateways call.
    let seen = at(&sim, 0, |client| async move {
        client.invoke(Invocation::new("clip", "a", "seen")).await
    });
    let seen = seen.await.expect("the owner answers");
    assert_eq!(seen.bytes, b"[6,0]");
    // What keeps nothing, with and without an answer.
    let lit = at(&sim, 1, |client| async move {
        let screen = client.entity::<Screen>("a");
        screen.light().cast().await?;
        screen.is_lit().await
    });
    assert_eq!(lit.await, Ok(true));
}

#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 4)]
async fn a_kind_that_no_node_ever_hosted_is_not_hosted(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;

    let haunted = at(&sim, 0, |client| async move {
        let typed = client.entity::<Ghost>("a").haunt().await;
        let named = client.invoke(Invocation::new("ghost", "a", "haunt")).await;
        (
            typed,
            client.entity::<Ghost>("a").haunt().cast().await,
            named,
        )
    });

    let (typed, cast, named) = haunted.await;
    assert!(matches!(typed, Err(CallError::NotHosted(_))), "{typed:?}");
    assert!(matches!(cast, Err(CallError::NotHosted(_))), "{cast:?}");
    assert!(matches!(named, Err(Refusal::NotHosted(_))), "{named:?}");
}

// WF-8
#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 8)]
async fn stored_messages_timers_events_and_sagas_cross_groups(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;

    let cart = sim.entity::<Cart>("c");
    cart.send("v".into()).await.expect("it is stored");
    cart.close("v".into()).await.expect("it is stored");
    // The node that is asked for the run does not host it.
    let started = at(&sim, 0, |client| async move {
        let trailer = Trailer {
            clip: "t".into(),
            cart: "t".into(),
        };
        let run = client.start("t", trailer).await?;
        run.result().await
    });

    let ended: Result<u64, SagaError> = started.await;
    assert_eq!(ended.expect("it completes"), 1);
    sim.advance(3 * SECOND).await;
    assert_eq!(sim.entity::<Clip>("v").seen().await, Ok((2, 1)));
    assert_eq!(sim.entity::<Clip>("t").seen().await, Ok((1, 0)));
    assert_eq!(sim.entity::<Cart>("t").add().await, Ok(2));
}

#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 8)]
async fn the_shards_of_a_dead_member_go_to_its_group_only(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;
    for id in 0..16 {
        let clip = sim.entity::<Clip>(id);
        clip.play().await.expect("the owner answers");
    }
    let carts: Vec<_> = (0..64).map(|id| sim.owner::<Cart>(id)).collect();

    sim.crash(MEDIA[0]);

    for id in 0..16 {
        let clip = sim.entity::<Clip>(id);
        assert_eq!(clip.play().timeout(PATIENCE).await, Ok(2), "clip {id}");
    }
    sim.advance(20 * SECOND).await;
    assert_eq!(owners::<Clip>(&sim), nodes([MEDIA[1]]));
    let after: Vec<_> = (0..64).map(|id| sim.owner::<Cart>(id)).collect();
    assert_eq!(after, carts, "nothing moved in the other group");
    sim.restart(MEDIA[0]).await;
    sim.advance(20 * SECOND).await;
    assert_eq!(owners::<Clip>(&sim), nodes(MEDIA));
}

#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 8)]
async fn a_group_without_nodes_fails_its_own_callers_only_and_gets_what_was_stored(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;
    sim.entity::<Clip>("v").play().await.expect("it is played");

    for node in MEDIA {
        sim.crash(node);
    }
    sim.advance(15 * SECOND).await;
    let asked = sim.now();
    let refused = at(&sim, 0, |client| async move {
        client.entity::<Clip>("v").play().timeout(2 * SECOND).await
    });
    let refused = refused.await.expect_err("nobody is there");
    let waited = sim.now() - asked;
    let sent = sim.entity::<Cart>("c").send("v".into()).await;
    sim.entity::<Cart>("c")
        .close("v".into())
        .await
        .expect("the other group goes on");
    let unowned: BTreeSet<_> = (0..64).map(|id| sim.owner::<Clip>(id)).collect();
    let carts = owners::<Cart>(&sim);
    sim.restart(MEDIA[1]).await;
    sim.advance(10 * SECOND).await;

    assert_eq!(
        refused,
        CallError::Unavailable("no node of the group `media` is up".into())
    );
    assert!(waited < 3 * SECOND, "{waited:?}");
    assert_eq!(sent, Ok(()), "it is stored until the group is back");
    assert_eq!(unowned, BTreeSet::from([None]));
    assert_eq!(carts, nodes([0, 1, 2]));
    assert_eq!(sim.entity::<Clip>("v").seen().await, Ok((3, 1)));
}

/// Whoever is the last one of its group gives nothing to others, and others lose nothing.
#[sim::test(nodes = 5, host(Cart, Clip, Screen, Trailer), seeds = 4)]
async fn nodes_of_a_group_are_restarted_one_by_one_without_an_error(sim: Sim) {
    split(&sim);
    sim.advance(10 * SECOND).await;

    let mut plays = 0;
    for node in MEDIA {
        let stopping = sim.clone();
        let stopped = tokio::spawn(async move { stopping.shutdown(node).await });
        for _ in 0..20 {
            plays += 1;
            let played = sim.entity::<Clip>("v").play().await;
            assert_eq!(played, Ok(plays));
            sim.advance(SECOND / 10).await;
        }
        stopped.await.expect("the task ends").expect("in order");
        sim.restart(node).await;
        sim.advance(10 * SECOND).await;
    }
}

/// A node that hosts nothing owns nothing: it is a way to the others.
#[sim::test(nodes = 3, host(Cart, Clip), seeds = 4)]
async fn a_node_that_hosts_nothing_only_sends(sim: Sim) {
    sim.host_on::<()>(0);
    sim.host_on::<Cart>(1);
    sim.host_on::<Clip>(2);
    sim.advance(10 * SECOND).await;

    let through = at(&sim, 0, |client| async move {
        let added = client.entity::<Cart>("a").add().await;
        (added, client.entity::<Clip>("a").play().await)
    });

    assert_eq!(through.await, (Ok(1), Ok(1)));
    assert_eq!(owners::<Cart>(&sim), nodes([1]));
    assert_eq!(owners::<Clip>(&sim), nodes([2]));
}
