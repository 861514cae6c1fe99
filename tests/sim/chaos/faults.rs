//! What goes wrong, one thing after another, drawn by the seed.

use std::{collections::BTreeMap, time::Duration};

use actor_cluster::sim::{Fault, Sim, Traffic};

/// Whether nodes are taken for dead that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witnesses {
    /// At most one node sees deaths that are none: one is not enough.
    Honest,
    /// Any may, and the database's clock may step.
    False,
}

/// The faults of one day.
pub(super) struct Faults {
    witnesses: Witnesses,
    /// The only node that sees false deaths on an honest day.
    liar: usize,
    frozen: Vec<usize>,
    /// By how much the database's clock was set back, all in all.
    back: Duration,
    seen: BTreeMap<&'static str, u32>,
}

impl Faults {
    pub(super) fn new(sim: &Sim, witnesses: Witnesses) -> Self {
        Self {
            witnesses,
            liar: below(sim, sim.nodes()),
            frozen: Vec::new(),
            back: Duration::ZERO,
            seen: BTreeMap::new(),
        }
    }

    /// Lets one more thing go wrong, or some of it go right again.
    pub(super) fn one_more(&mut self, sim: &Sim) {
        let node = below(sim, sim.nodes());
        let other = (node + 1 + below(sim, sim.nodes() - 1)) % sim.nodes();
        let name = match below(sim, 14) {
            0 | 1 => self.crash(sim, node),
            2 => self.freeze(sim, node),
            3 => split(sim),
            4 => {
                sim.block(node, other);
                "block"
            }
            5 => {
                let by = Duration::from_millis(sim.rng().below(400));
                sim.slow_down(node, other, by);
                "slow"
            }
            6 => {
                sim.cut_links(node, other);
                "cut"
            }
            7 => self.refuse(sim, node, other),
            8 | 9 => {
                sim.fault(node, bad_store(sim));
                "store"
            }
            10 => {
                let late = Duration::from_millis(600);
                sim.traffic(Traffic::default().lose(2).double(10).delay(20, late));
                "traffic"
            }
            11 => leave(sim, node),
            12 => {
                sim.isolate(node);
                "isolate"
            }
            _ => self.mend(sim),
        };
        *self.seen.entry(name).or_default() += 1;
        self.start_the_dead(sim);
    }

    /// Lets everything go right again, and waits until all nodes are up. Returns by how much the
    /// database's clock was set back: so much later is everything that is due by it.
    pub(super) async fn end(mut self, sim: &Sim) -> Duration {
        self.mend(sim);
        sim.traffic(Traffic::default());
        for node in 0..sim.nodes() {
            sim.restart(node).await;
        }
        sim.note(format_args!("what went wrong: {:?}", self.seen));
        self.back
    }

    fn crash(&mut self, sim: &Sim, node: usize) -> &'static str {
        if sim.rng().below(2) == 0 {
            sim.crash(node);
            return "crash";
        }
        let fault = if sim.rng().below(2) == 0 {
            Fault::crash_before()
        } else {
            Fault::crash_after()
        };
        sim.fault(node, fault.skip(sim.rng().below(20)));
        "crash at a store call"
    }

    fn freeze(&mut self, sim: &Sim, node: usize) -> &'static str {
        sim.freeze(node);
        self.frozen.push(node);
        "freeze"
    }

    fn refuse(&mut self, sim: &Sim, node: usize, other: usize) -> &'static str {
        match self.witnesses {
            Witnesses::False if sim.rng().below(3) == 0 => {
                // Ahead over the ends of some leases, or back by up to one.
                let ms = i64::try_from(sim.rng().below(20_000)).expect("it is small") - 10_000;
                sim.step_database_clock(ms);
                self.back += Duration::from_millis(ms.min(0).unsigned_abs());
                "clock"
            }
            Witnesses::False => {
                for witness in (0..sim.nodes()).filter(|witness| *witness != other) {
                    sim.refuse(witness, other);
                }
                "false death"
            }
            Witnesses::Honest if self.liar != other => {
                sim.refuse(self.liar, other);
                "refuse"
            }
            Witnesses::Honest => {
                sim.cut_links(node, other);
                "cut"
            }
        }
    }

    fn mend(&mut self, sim: &Sim) -> &'static str {
        sim.heal();
        for node in self.frozen.drain(..) {
            sim.thaw(node);
        }
        for node in 0..sim.nodes() {
            sim.clear_faults(node);
        }
        "mend"
    }

    /// Whoever watches over programs starts them again, some time later.
    fn start_the_dead(&self, sim: &Sim) {
        for node in 0..sim.nodes() {
            if sim.rng().below(3) == 0 {
                sim.start_node(node);
            }
        }
        let frozen = self.frozen.first();
        if let Some(node) = frozen.filter(|_| sim.rng().below(2) == 0) {
            sim.thaw(*node);
        }
    }
}

fn below(sim: &Sim, bound: usize) -> usize {
    usize::try_from(sim.rng().below(bound as u64)).expect("it is below a usize")
}

fn split(sim: &Sim) -> &'static str {
    let (mut these, mut those) = (Vec::new(), Vec::new());
    for node in 0..sim.nodes() {
        let side = if sim.rng().below(2) == 0 {
            &mut these
        } else {
            &mut those
        };
        side.push(node);
    }
    sim.partition(&these, &those);
    "partition"
}

fn leave(sim: &Sim, node: usize) -> &'static str {
    let leaving = sim.clone();
    // It may take longer than the next fault.
    drop(tokio::spawn(async move { leaving.shutdown(node).await }));
    "leave"
}

fn bad_store(sim: &Sim) -> Fault {
    let ms = Duration::from_millis(sim.rng().below(1_500));
    let (times, percent) = (1 + sim.rng().below(10), 20 + sim.rng().below(80));
    let fault = match sim.rng().below(5) {
        0 => Fault::fail_before(),
        1 => Fault::fail_after(),
        2 => Fault::late(ms),
        3 => Fault::slow(ms),
        _ => return Fault::hang(),
    };
    fault.times(times).chance(percent)
}
