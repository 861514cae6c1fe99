//! Runs a test over its seeds, and says how to repeat the one that failed.

use std::{
    env, fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
};

use actor_core::component::Registry;

use super::{
    control::Sim,
    shared::Shared,
    trace::{FILE, Trace},
    world::{Body, World},
};

/// Names the variable that repeats one seed.
const SEED: &str = "ACTOR_SIM_SEED";

/// Names the variable that says how many seeds to run with instead of the test's own number, or
/// which, as `201-600`.
const SEEDS: &str = "ACTOR_SIM_SEEDS";

/// Lines of the trace that are shown after a failure.
const LINES_SHOWN: usize = 60;

/// What a test's attribute says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The test's path.
    pub name: &'static str,
    /// How many nodes there are.
    pub nodes: u32,
    /// How many seeds it runs with, from 1 on.
    pub seeds: u32,
    /// What the nodes host.
    pub host: fn(&mut Registry),
}

/// What a test's body may return.
pub trait Ended {
    /// Returns why it failed, if it did.
    ///
    /// # Errors
    /// The failure as text.
    fn ended(self) -> Result<(), String>;
}

impl Ended for () {
    fn ended(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Debug> Ended for Result<(), E> {
    fn ended(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Turns what the body returned into what [`run`] expects.
///
/// # Errors
/// The body's.
pub fn finish(outcome: impl Ended) -> Result<(), String> {
    outcome.ended()
}

/// Runs a test with each of its seeds, or with the one `ACTOR_SIM_SEED` names, or with those that
/// `ACTOR_SIM_SEEDS` says: a count, or the first and the last as `201-600`.
///
/// # Panics
/// When the test fails, after printing the seed, how to repeat it, and the end of the trace.
pub fn run<F>(options: Options, body: F)
where
    F: Fn(Sim) -> Pin<Box<dyn Future<Output = Result<(), String>>>>,
{
    let real = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let real = real.expect("a runtime for the store starts");
    for seed in seeds(options.seeds) {
        let shared = Arc::new(Shared::new(
            seed,
            options.nodes as usize,
            options.host,
            real.handle().clone(),
        ));
        let trace = shared.trace.clone();
        let logs = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .without_time()
            .with_writer(trace.clone())
            .finish();
        let outcome = tracing::subscriber::with_default(logs, || {
            catch_unwind(AssertUnwindSafe(|| {
                simulate(&options, shared, &real, &body)
            }))
        });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                report(&options, seed, &trace);
                panic!("seed {seed}: {why}");
            }
            Err(panic) => {
                report(&options, seed, &trace);
                resume_unwind(panic);
            }
        }
    }
}

fn simulate<F>(
    options: &Options,
    shared: Arc<Shared>,
    real: &tokio::runtime::Runtime,
    body: &F,
) -> Result<(), String>
where
    F: Fn(Sim) -> Body,
{
    let (mut world, sim) = World::new(options, shared, real);
    let outcome = world.run(body(sim));
    // What ended in the middle may hold the store for ever: its thread and its memory end here.
    let closed = real.block_on(world.store().close());
    outcome.and(closed.map_err(|error| format!("the database does not close: {error}")))
}

/// Returns the seeds to run with.
///
/// # Panics
/// When `ACTOR_SIM_SEED` or `ACTOR_SIM_SEEDS` is not what it should be.
fn seeds(count: u32) -> Vec<u64> {
    if let Ok(text) = env::var(SEED) {
        let seed = text.parse();
        return vec![seed.unwrap_or_else(|_| panic!("{SEED} is {text:?}: accepted is a number"))];
    }
    let Ok(text) = env::var(SEEDS) else {
        return (1..=u64::from(count)).collect();
    };
    let (first, last) = text.split_once('-').unwrap_or(("1", &text));
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first..=last).collect(),
        _ => panic!("{SEEDS} is {text:?}: accepted is a count, or FIRST-LAST"),
    }
}

/// Says what a person needs to look into a failure.
fn report(options: &Options, seed: u64, trace: &Trace) {
    let (lines, last) = trace.last(LINES_SHOWN);
    eprintln!("\nthe end of the trace ({lines} lines in all), with logs:");
    for line in last {
        eprintln!("{line}");
    }
    // The first part of the path is the crate, which cargo's filter does not know.
    let name = options
        .name
        .split_once("::")
        .map_or(options.name, |(_, name)| name);
    eprintln!("\nfailed with seed {seed}; repeat with: {SEED}={seed} cargo test {name}");
    eprintln!("all of the trace goes to a file with {FILE}=PATH\n");
}
