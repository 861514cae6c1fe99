//! Stored messages of one sender arrive in the order sent, whatever becomes of the commits that
//! store them and of the reads that find them.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};

use crate::chaos::kinds::{Ledger, Relay};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Lets relays send to a ledger for a while, each for several callers: one that gave up or asks
/// again does not hold up the others.
async fn relays_send(sim: &Sim) {
    let caller = |number: u64| {
        let sim = sim.clone();
        tokio::spawn(async move {
            let id = number % 4;
            for _ in 0..12 {
                // Whether it is told or not: what is stored has its number.
                let count = 1 + sim.rng().below(3);
                let relay = sim.entity::<Relay>(id);
                drop(relay.send(0, count).timeout(SECOND).await);
                sim.advance(Duration::from_millis(sim.rng().below(60)))
                    .await;
            }
        })
    };
    let callers: Vec<_> = (0..12).map(caller).collect();
    for caller in callers {
        caller.await.expect("it ends");
    }
}

/// What each relay sent stands in the ledger, in order and once.
async fn everything_is_in_order(sim: &Sim) {
    for node in 0..sim.nodes() {
        sim.clear_faults(node);
    }
    sim.advance(12 * SECOND).await;
    let entries = sim.entity::<Ledger>(0).entries().timeout(MINUTE).await;
    let told = entries.expect("all is well again").told;
    for id in 0..4_u64 {
        let sent = sim.entity::<Relay>(id).sent().timeout(MINUTE).await;
        let sent = sent.expect("all is well again").messages;
        let from = told.iter().filter(|(from, _)| *from == id.to_string());
        let numbers: Vec<_> = from.map(|(_, number)| *number).collect();
        let expected: Vec<_> = (1..=sent.first().copied().unwrap_or(0)).collect();
        assert!(expected.len() > 20, "relay {id} sent {}", expected.len());
        assert_eq!(numbers, expected, "relay {id}");
    }
}

/// A commit whose end nobody knows may have stored a message that nobody tells its target of.
#[sim::test(host(Ledger, Relay), seeds = 8)]
async fn messages_of_a_commit_whose_end_was_unknown_are_not_overtaken(sim: Sim) {
    sim.fault(
        0,
        Fault::fail_after()
            .only("commit")
            .chance(15)
            .until_cleared(),
    );

    relays_send(&sim).await;

    everything_is_in_order(&sim).await;
}

/// A message that is stored while its target is being read is not in what is read.
#[sim::test(nodes = 2, host(Ledger, Relay), seeds = 8)]
async fn messages_stored_while_their_target_is_read_are_not_overtaken(sim: Sim) {
    for node in 0..2 {
        let slow = Fault::slow(Duration::from_millis(30));
        sim.fault(node, slow.only("load entity").chance(50).until_cleared());
        let failed = Fault::fail_before().only("commit");
        sim.fault(node, failed.chance(10).until_cleared());
    }

    relays_send(&sim).await;

    everything_is_in_order(&sim).await;
}

/// The relay moves to the node of its ledger, which was there all the time.
#[sim::test(nodes = 3, host(Ledger, Relay), seeds = 16)]
async fn messages_of_a_senders_former_life_are_not_overtaken(sim: Sim) {
    sim.advance(3 * SECOND).await;
    let ledger = sim.owner::<Ledger>(0).expect("somebody owns it");
    // The look at what was stored for a new owner must not be what keeps the order.
    let slow = Fault::slow(Duration::from_millis(700)).only("ready messages");
    sim.fault(ledger, slow.until_cleared());
    let sending = tokio::spawn({
        let sim = sim.clone();
        async move { relays_send(&sim).await }
    });

    for _ in 0..3 {
        sim.advance(Duration::from_millis(200 + sim.rng().below(300)))
            .await;
        for node in (0..3).filter(|node| *node != ledger) {
            // After the commit, before anybody is told.
            sim.fault(node, Fault::crash_after().only("commit"));
        }
    }
    sending.await.expect("it ends");

    everything_is_in_order(&sim).await;
}
