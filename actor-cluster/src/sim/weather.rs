//! What a test does to the network of a simulation.

use std::time::Duration;

use super::{control::Sim, traffic::Traffic, wires::Host};

/// What happens to the ways between hosts. All of it lasts until [`Sim::heal`].
impl Sim {
    /// Lets nothing pass from node `from` to node `to`. It is not lost: it waits, as bytes do that
    /// are sent again and again, until the link gives up or the way is free.
    pub fn block(&self, from: usize, to: usize) {
        self.note(format_args!("the way from n{from} to n{to} is blocked"));
        let (from, to) = (self.host(from), self.host(to));
        self.shared.wires().block(from, to);
    }

    /// Lets nothing pass between these nodes and those, either way. The test reaches all of them.
    pub fn partition(&self, these: &[usize], those: &[usize]) {
        for this in these {
            for that in those {
                self.block(*this, *that);
                self.block(*that, *this);
            }
        }
    }

    /// Lets nothing pass between a node and everybody else, the test included. A node that crashes
    /// behind this is a machine that lost its power: nobody is told.
    pub fn isolate(&self, node: usize) {
        self.note(format_args!("n{node} is isolated"));
        let host = self.host(node);
        let nodes = (0..self.nodes()).map(Host::Node);
        for other in nodes.chain([Host::Driver]).filter(|other| *other != host) {
            let mut wires = self.shared.wires();
            wires.block(host, other);
            wires.block(other, host);
        }
    }

    /// Takes the port of a node's links away, as a broken network stack does: nothing more can be
    /// accepted there. The node's next life has it again.
    pub fn lose_port(&self, node: usize) {
        self.note(format_args!("n{node} loses its port"));
        let host = self.host(node);
        self.shared.wires().lose_port(host.address());
    }

    /// Lets everything from node `from` to node `to` take this much longer.
    pub fn slow_down(&self, from: usize, to: usize, by: Duration) {
        self.note(format_args!(
            "the way from n{from} to n{to} is slower by {by:?}"
        ));
        let (from, to) = (self.host(from), self.host(to));
        self.shared.wires().slow(from, to, by);
    }

    /// Breaks all connections between two nodes now. What was under way is lost; they may dial
    /// anew.
    pub fn cut_links(&self, one: usize, other: usize) {
        self.note(format_args!("what connects n{one} and n{other} is cut"));
        let (one, other) = (self.host(one), self.host(other));
        let latency = self.shared.latency();
        self.shared.wires().cut(one, other, latency);
    }

    /// Breaks the connections between two nodes and refuses what node `from` dials node `to`
    /// though it lives, as a firewall can: false evidence of a death.
    pub fn refuse(&self, from: usize, to: usize) {
        self.note(format_args!("n{from} is refused at n{to}"));
        let (from, to) = (self.host(from), self.host(to));
        let latency = self.shared.latency();
        self.shared.wires().refuse(from, to, latency);
    }

    /// Makes all ways free and fast again. What waited arrives.
    pub fn heal(&self) {
        self.note("the network is healed");
        let latency = self.shared.latency();
        self.shared.wires().heal(latency);
    }

    /// Says what may happen to requests and notes from now on; [`Sim::heal`] does not change it.
    pub fn traffic(&self, traffic: Traffic) {
        self.shared.set_traffic(traffic);
    }

    /// Lets the database's clock show so many milliseconds more from now on, or less: a step as of
    /// a clock that was set. Nothing else moves.
    pub fn step_database_clock(&self, by_ms: i64) {
        self.note(format_args!("the database's clock steps by {by_ms} ms"));
        self.shared.step_database(by_ms);
    }

    /// Returns the host of a node.
    ///
    /// # Panics
    /// If the simulation has no such node: a mistake in the test.
    fn host(&self, node: usize) -> Host {
        drop(self.shared.slot(node));
        Host::Node(node)
    }
}
