//! What the network between nodes can do to a cluster, and what a node's death costs by how much of
//! it can be seen.

use std::time::Duration;

use actor_cluster::sim::{self, Sim, Traffic};
use actor_core::CallError;

use crate::kinds::{Counter, Tally};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Lets everybody settle; returns the owner of `a`, which counted to 1.
async fn owner_of_a(sim: &Sim) -> usize {
    sim.advance(5 * SECOND).await;
    let counter = sim.entity::<Counter>("a");
    assert_eq!(counter.add(1).await, Ok(1));
    sim.owner::<Counter>("a").expect("somebody owns it")
}

/// Returns how long it takes until `a` answers again.
async fn pause(sim: &Sim) -> Duration {
    let began = sim.now();
    let added = sim.entity::<Counter>("a").add(1).timeout(MINUTE).await;
    assert_eq!(added, Ok(2));
    sim.now() - began
}

/// A process that dies leaves a kernel that says so: nobody waits for its lease.
#[sim::test(nodes = 3, host(Counter), seeds = 6)]
async fn a_dead_process_costs_its_callers_less_than_a_second(sim: Sim) {
    let owner = owner_of_a(&sim).await;

    sim.crash(owner);

    let pause = pause(&sim).await;
    assert!(pause < SECOND, "{pause:?}");
}

/// Silence proves nothing: a machine without power costs what is left of its lease.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_machine_without_power_costs_its_lease_and_not_much_more(sim: Sim) {
    let owner = owner_of_a(&sim).await;

    sim.isolate(owner);
    sim.advance(Duration::from_millis(20)).await;
    sim.crash(owner);

    let pause = pause(&sim).await;
    assert!(pause > 5 * SECOND, "{pause:?}: nobody could know that soon");
    assert!(pause < 13 * SECOND, "{pause:?}");
}

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn a_silent_link_deposes_nobody(sim: Sim) {
    let owner = owner_of_a(&sim).await;
    let life = life(&sim, owner).await;
    let others: Vec<_> = (0..3).filter(|node| *node != owner).collect();

    sim.partition(&[owner], &others);
    sim.advance(MINUTE).await;

    assert_eq!(sim.owner::<Counter>("a"), Some(owner));
    assert_eq!(self::life(&sim, owner).await, life, "it lives on");
    assert_eq!(sim.entity::<Counter>("a").add(1).await, Ok(2));
}

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn one_false_witness_of_three_nodes_deposes_nobody(sim: Sim) {
    let owner = owner_of_a(&sim).await;
    let life = life(&sim, owner).await;

    sim.refuse((owner + 1) % 3, owner);
    sim.advance(MINUTE).await;

    assert_eq!(self::life(&sim, owner).await, life, "it lives on");
    assert_eq!(sim.owner::<Counter>("a"), Some(owner));
}

/// Two are believed, once: the node that was deposed alive says who was wrong.
#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn two_false_witnesses_depose_a_node_once(sim: Sim) {
    let owner = owner_of_a(&sim).await;
    let first = life(&sim, owner).await;
    let witnesses = [(owner + 1) % 3, (owner + 2) % 3];

    for witness in witnesses {
        sim.refuse(witness, owner);
    }
    sim.advance(5 * SECOND).await;
    sim.heal();
    sim.advance(10 * SECOND).await;
    let second = life(&sim, owner).await;
    for witness in witnesses {
        sim.refuse(witness, owner);
    }
    sim.advance(MINUTE).await;

    assert_ne!(second, first, "it was deposed and began anew");
    assert_eq!(
        life(&sim, owner).await,
        second,
        "they are not believed again"
    );
    assert_eq!(
        sim.entity::<Counter>("a").count().timeout(MINUTE).await,
        Ok(1)
    );
}

async fn life(sim: &Sim, node: usize) -> u64 {
    let life = sim.run_on(node, |node| async move { node.incarnation().0 });
    life.await.expect("it is up")
}

/// What is lost or arrives twice between nodes is counted once.
#[sim::test(nodes = 3, host(Counter), seeds = 6)]
async fn messages_that_are_lost_or_doubled_between_nodes_count_once(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let late = Duration::from_millis(300);
    sim.traffic(Traffic::default().lose(5).double(40).delay(30, late));
    let mut sums = [0; 4];

    for round in 0..20 {
        for (id, sum) in sums.iter_mut().enumerate() {
            let counter = sim.entity::<Counter>(id);
            let key = format!("k{round}");
            // A lost request is never answered; its repeat is.
            while counter.add(1).key(&key).timeout(SECOND).await.is_err() {}
            *sum += 1;
        }
    }
    sim.traffic(Traffic::default());

    for (id, sum) in sums.into_iter().enumerate() {
        assert_eq!(sim.entity::<Counter>(id).count().await, Ok(sum));
    }
}

/// A volatile entity remembers nothing, so only what says that it may is done again.
#[sim::test(nodes = 3, host(Tally), seeds = 4)]
async fn a_volatile_call_of_unknown_fate_is_repeated_only_if_its_method_may_be(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let owner = sim.owner::<Tally>("a").expect("somebody owns it");
    let call = |again: bool| {
        let tally = sim.entity::<Tally>("a");
        tokio::spawn(async move {
            match again {
                true => tally.wait_again(300).timeout(MINUTE).await,
                false => tally.wait(300).timeout(MINUTE).await.map(|()| 0),
            }
        })
    };
    let (once, again) = (call(false), call(true));

    sim.advance(Duration::from_millis(100)).await;
    sim.crash(owner);

    let once = once.await.expect("it ends");
    assert!(
        matches!(once, Err(CallError::UnknownOutcome(_))),
        "{once:?}"
    );
    assert_eq!(again.await.expect("it ends"), Ok(300));
}

/// Only one of two directions works: who asks hears nothing, and what was asked is done once.
#[sim::test(nodes = 2, host(Counter), seeds = 4)]
async fn a_way_that_is_blocked_in_one_direction_doubles_nothing(sim: Sim) {
    sim.advance(5 * SECOND).await;
    let asked = |name: &'static str| {
        let sim = sim.clone();
        tokio::spawn(async move {
            let ask = sim.run_on(0, move |node| async move {
                let counter = node.client().entity::<Counter>(name);
                counter.add(1).timeout(MINUTE).await.map_err(drop)
            });
            ask.await.expect("it lives")
        })
    };
    let names = ["a", "b", "c", "d", "e", "f"];
    assert!(
        names
            .iter()
            .any(|name| sim.owner::<Counter>(name) == Some(1))
    );

    sim.block(1, 0);
    let asked: Vec<_> = names.into_iter().map(asked).collect();
    sim.advance(8 * SECOND).await;
    sim.heal();

    for (name, asked) in names.into_iter().zip(asked) {
        assert_eq!(asked.await.expect("it ends"), Ok(1), "{name}");
        assert_eq!(sim.entity::<Counter>(name).count().await, Ok(1), "{name}");
    }
}
