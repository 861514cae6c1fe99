//! Clients that go on calling through a bad day, and remember what they asked and what they were
//! told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actor_cluster::sim::Sim;
use actor_core::{CallError, clock::Clock};
use actor_workflow::SagaClient as _;
use tokio::task::JoinHandle;

use super::{
    history::{Asked, Operation},
    kinds::{Ledger, Register, Relay, Transfer},
};

/// How many clients call at a time.
const CLIENTS: u64 = 6;

/// How many entities of each kind there are: few, so that clients meet.
pub(super) const ENTITIES: u64 = 3;

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How much later than at its deadline a call may end.
const SLACK: Duration = Duration::from_millis(100);

/// What clients asked for and were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) registers: Asked,
    /// Numbers that clients added to each ledger: those that were acknowledged.
    pub(super) added: BTreeMap<u64, BTreeSet<u64>>,
    /// Those of which nobody knows.
    pub(super) perhaps: BTreeSet<u64>,
    /// Sagas by id, and whether their start was acknowledged.
    pub(super) sagas: BTreeMap<String, (Transfer, bool)>,
    /// What a relay was asked to do and said it did: messages, timers.
    pub(super) relayed: BTreeMap<u64, (u64, u64)>,
    /// Errors by kind.
    pub(super) errors: BTreeMap<&'static str, u64>,
    pub(super) calls: u64,
}

/// The clients of one day.
pub(super) struct Clients {
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// One of them.
#[derive(Clone)]
struct Caller {
    sim: Sim,
    told: Arc<Mutex<Told>>,
    number: u64,
    /// Whether it reads registers.
    reads: bool,
}

impl Clients {
    pub(super) fn start(sim: &Sim, reads: bool) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let stop = Arc::<AtomicBool>::default();
        let task = |number| {
            let (sim, told, stop) = (sim.clone(), told.clone(), stop.clone());
            let caller = Caller {
                sim,
                told,
                number,
                reads,
            };
            tokio::spawn(async move {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    caller.ask(round).await;
                    let pause = caller.sim.rng().below(250);
                    Clock.sleep(Duration::from_millis(pause)).await;
                }
            })
        };
        Self {
            tasks: (0..CLIENTS).map(task).collect(),
            told,
            stop,
        }
    }

    /// Lets them end what they do; returns what they were told.
    pub(super) async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
        std::mem::take(&mut *lock(&self.told))
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Caller {
    async fn ask(&self, round: u64) {
        let rng = self.sim.rng();
        let (id, what) = (rng.below(ENTITIES), rng.below(20));
        // Unlike all other numbers of this day.
        let number = 1 + self.number + CLIENTS * round;
        match what {
            0..=3 => self.write(id, number).await,
            4..=6 => self.swap(id, number).await,
            7..=10 => self.read(id).await,
            11..=15 => self.add(id, number).await,
            16..=17 => self.relay(id, rng.below(ENTITIES)).await,
            18 => self.ring(id, rng.below(ENTITIES)).await,
            _ => self.transfer(number).await,
        }
    }

    async fn write(&self, id: u64, value: u64) {
        let operation = Operation::Write(value);
        let call = self.called(id, operation);
        let register = self.sim.entity::<Register>(id);
        let written = self.timed(register.write(value).timeout(TIMEOUT)).await;
        if written.is_some() {
            lock(&self.told).registers.answer(call, operation);
        }
    }

    async fn swap(&self, id: u64, to: u64) {
        // Often wrong, sometimes right: what was read a moment ago.
        let register = self.sim.entity::<Register>(id);
        let Some(from) = self.timed(register.read().timeout(TIMEOUT)).await else {
            return;
        };
        let swap = |done| Operation::Swap { from, to, done };
        let call = self.called(id, swap(None));
        let swapped = self.timed(register.swap(from, to).timeout(TIMEOUT)).await;
        if swapped.is_some() {
            lock(&self.told).registers.answer(call, swap(swapped));
        }
    }

    async fn read(&self, id: u64) {
        if !self.reads {
            return;
        }
        let call = self.called(id, Operation::Read { value: None });
        let register = self.sim.entity::<Register>(id);
        let value = self.timed(register.read().timeout(TIMEOUT)).await;
        if value.is_some() {
            let read = Operation::Read { value };
            lock(&self.told).registers.answer(call, read);
        }
    }

    /// Adds to a ledger, again under the same key if nobody knows, as clients do.
    async fn add(&self, id: u64, number: u64) {
        let ledger = self.sim.entity::<Ledger>(id);
        for _ in 0..3 {
            let add = ledger.add(number).key(number.to_string());
            if self.timed(add.timeout(TIMEOUT)).await.is_some() {
                let mut told = lock(&self.told);
                told.perhaps.remove(&number);
                told.added.entry(id).or_default().insert(number);
                return;
            }
            lock(&self.told).perhaps.insert(number);
        }
    }

    async fn relay(&self, id: u64, ledger: u64) {
        let count = 1 + self.sim.rng().below(4);
        let relay = self.sim.entity::<Relay>(id);
        let sent = self.timed(relay.send(ledger, count).timeout(TIMEOUT)).await;
        if sent.is_some() {
            lock(&self.told).relayed.entry(id).or_default().0 += count;
        }
    }

    async fn ring(&self, id: u64, ledger: u64) {
        let ms = self.sim.rng().below(5_000);
        let relay = self.sim.entity::<Relay>(id);
        let set = self
            .timed(relay.ring_later(ledger, ms).timeout(TIMEOUT))
            .await;
        if set.is_some() {
            lock(&self.told).relayed.entry(id).or_default().1 += 1;
        }
    }

    async fn transfer(&self, number: u64) {
        let rng = self.sim.rng();
        let transfer = Transfer {
            id: format!("t{number}"),
            from: rng.below(ENTITIES),
            to: rng.below(ENTITIES),
            wait_ms: rng.below(4_000),
            fails: rng.below(3) == 0,
        };
        let id = transfer.id.clone();
        let sagas = |told: bool| {
            let saga = (transfer.clone(), told);
            lock(&self.told).sagas.insert(id.clone(), saga);
        };
        sagas(false);
        let started = self
            .timed(self.sim.start(id.clone(), transfer.clone()))
            .await;
        if started.is_some() {
            sagas(true);
        }
    }

    fn called(&self, register: u64, operation: Operation) -> usize {
        lock(&self.told).registers.call(register, operation)
    }

    /// Makes a call that must end by its deadline, well or with an error that bad days explain.
    async fn timed<T, E: Debug>(
        &self,
        call: impl IntoFuture<Output = Result<T, CallError<E>>>,
    ) -> Option<T> {
        let began = Clock.now();
        let answer = call.into_future().await;
        let took = Clock.now() - began;
        assert!(
            took <= Duration::from_secs(5) + SLACK,
            "a call took {took:?}"
        );
        let mut told = lock(&self.told);
        told.calls += 1;
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                let kind = error.kind();
                assert!(
                    ["timeout", "unavailable", "unknown_outcome", "overloaded"].contains(&kind),
                    "{error:?}"
                );
                *told.errors.entry(kind).or_default() += 1;
                None
            }
        }
    }
}
