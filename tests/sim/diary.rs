//! A singleton that writes down when and where it lives, and who says that it runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_cluster::{Singleton, node::SingletonState, sim::Sim};
use actor_core::{
    Result,
    id::{Incarnation, NodeId},
    store::nodes,
};

const SECOND: Duration = Duration::from_secs(1);

/// What one run of the singleton did, by the database's clock.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) node: NodeId,
    /// Its first sign of life, and its last one.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Whether it returned.
    pub(crate) ended: bool,
}

/// Where the runs of a singleton write down that they live. All nodes share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<Stay>>>);

impl Diary {
    pub(crate) fn begin(&self, singleton: &Singleton) -> usize {
        let now_ms = singleton.hosting().store().now_ms();
        let mut stays = self.lock();
        stays.push(Stay {
            node: singleton.node().clone(),
            first_ms: now_ms,
            last_ms: now_ms,
            ended: false,
        });
        stays.len() - 1
    }

    pub(crate) fn note(&self, stay: usize, singleton: &Singleton, ended: bool) {
        let stay = &mut self.lock()[stay];
        (stay.last_ms, stay.ended) = (singleton.hosting().store().now_ms(), ended);
    }

    pub(crate) fn stays(&self) -> Vec<Stay> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Stay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if two runs were alive at one time; returns them all.
    pub(crate) fn one_at_a_time(&self) -> Vec<Stay> {
        let stays = self.stays();
        for (index, one) in stays.iter().enumerate() {
            for other in &stays[index + 1..] {
                let apart = one.last_ms < other.first_ms || other.last_ms < one.first_ms;
                assert!(apart, "two at a time: {one:?} and {other:?}");
            }
        }
        stays
    }
}

/// Gives all nodes the singleton; `life` is told which stay of the diary is its own.
pub(crate) fn diarist<F, R>(sim: &Sim, life: F) -> Diary
where
    F: Fn(Diary, usize, Singleton) -> R + Send + Sync + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let diary = Diary::default();
    let shared = diary.clone();
    sim.singleton("diarist", move |singleton| {
        life(shared.clone(), shared.begin(&singleton), singleton)
    });
    diary
}

/// Lives, ten times a second, until it is told to end; then it takes `bow` to end.
pub(crate) fn lives(sim: &Sim, bow: Duration) -> Diary {
    diarist(sim, move |diary, stay, singleton| async move {
        while singleton.pause(Duration::from_millis(100)).await {
            diary.note(stay, &singleton, false);
        }
        singleton.hosting().clock().sleep(bow).await;
        diary.note(stay, &singleton, true);
        Ok(())
    })
}

/// Returns what each node that is up says of the singleton; frozen ones are not asked.
pub(crate) async fn states(
    sim: &Sim,
    name: &'static str,
    frozen: Option<usize>,
) -> Vec<(usize, SingletonState)> {
    let mut states = Vec::new();
    let asked = (0..sim.nodes()).filter(|node| sim.is_up(*node) && Some(*node) != frozen);
    for node in asked {
        let cluster = sim.run_on(node, |node| async move { node.cluster() });
        let all = cluster.await.expect("it lives").singletons;
        let ours = all.iter().find(|it| &*it.name == name);
        states.push((node, ours.expect("registered").state));
    }
    states
}

/// Returns the node that runs the singleton, by its own account.
pub(crate) async fn runner(sim: &Sim, name: &'static str, frozen: Option<usize>) -> Option<usize> {
    let states = states(sim, name, frozen).await;
    let mut runs = states
        .iter()
        .filter(|(_, state)| *state == SingletonState::Runs);
    let runner = runs.next().map(|(node, _)| *node);
    assert_eq!(runs.next(), None, "two run {name}");
    runner
}

/// Ends a node's lease, as witnesses do that think it is dead; it lives on until it asks for more.
pub(crate) async fn declare_dead(sim: &Sim, index: usize) {
    let life = sim.run_on(index, |node| async move {
        (node.name().clone(), node.incarnation())
    });
    let (name, life): (NodeId, Incarnation) = life.await.expect("it lives");
    end_lease(sim, name, life).await;
}

pub(crate) async fn end_lease(sim: &Sim, name: NodeId, life: Incarnation) {
    let ended = sim.store().write("declare dead", move |c| {
        Box::pin(async move { nodes::tombstone(c, &name, life).await })
    });
    assert!(ended.await.expect("written"), "it had a lease");
}

/// Lets the diarist run for a moment, up to so many milliseconds of the seed's choice; returns what
/// it writes and where it runs.
pub(crate) async fn at_work(sim: &Sim, ms: u64) -> (Diary, usize) {
    let diary = lives(sim, Duration::ZERO);
    sim.advance(5 * SECOND).await;
    sim.advance(Duration::from_millis(sim.rng().below(ms)))
        .await;
    let first = runner(sim, "diarist", None).await;
    (diary, first.expect("somebody runs it"))
}
