//! What happens to a packet when it arrives.

use std::{sync::Arc, time::Duration};

use actor_core::clock::Clock;

use crate::sim::{
    machine::Machine,
    network::{Broken, Packet, Undelivered},
    shared::Shared,
};

/// Lets a packet arrive at its own time.
pub(super) fn deliver(shared: &Arc<Shared>, machine: &Machine, at: Duration, packet: Packet) {
    let arrival = machine.clock.instant(at);
    match packet {
        Packet::Answer { sender, answer, .. } => machine.spawn(async move {
            Clock.sleep_until(arrival).await;
            // Whoever asked may have gone away.
            drop(sender.send(answer));
        }),
        Packet::Request { to, number, work } => {
            let node = shared.slot(to).node.clone();
            let Some(node) = node else {
                let request = Packet::Request { to, number, work };
                return refuse(shared, at, &request, Undelivered::Starting);
            };
            let (shared, clock, part) = (shared.clone(), machine.clock, machine.part);
            machine.spawn(async move {
                Clock.sleep_until(arrival).await;
                shared.network().delivered(number);
                let answer = work(node).await;
                if shared.is_alive(part) {
                    let at = clock.now() + shared.latency();
                    shared.network().answer(number, at, Ok(answer));
                }
            });
        }
    }
}

/// Sends back a request to a node that is not there.
pub(super) fn refuse(shared: &Shared, at: Duration, packet: &Packet, why: Undelivered) {
    if let Packet::Request { number, .. } = packet {
        let at = at + shared.latency();
        shared
            .network()
            .answer(*number, at, Err(Broken::Undelivered(why)));
    }
}
