//! One paused runtime that the world steps: a life of a node, or the test's body.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use actor_core::clock::{Clock, Instant};
use tokio::runtime::{Builder, Runtime};

use super::network::Part;

/// Where a part's clock stands in the simulation's time. Valid inside the part's runtime only.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartClock {
    start: Instant,
    born: Duration,
}

impl PartClock {
    /// Returns the time since the simulation began.
    pub(super) fn now(self) -> Duration {
        self.born + Clock.now().saturating_duration_since(self.start)
    }

    /// Returns this moment of the simulation on the part's own clock.
    pub(super) fn instant(self, at: Duration) -> Instant {
        self.start + at.saturating_sub(self.born)
    }
}

/// Ends a step of a machine before its time.
#[derive(Debug, Default)]
pub(super) struct Cut {
    wanted: AtomicBool,
    root: Mutex<Option<Waker>>,
}

impl Cut {
    /// Ends the step once nothing is left to do at this moment.
    pub(super) fn when_idle(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Ends the step as soon as the runtime looks up from its tasks.
    pub(super) fn now(&self) {
        self.when_idle();
        self.wake();
    }

    fn wake(&self) {
        if let Some(root) = self
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            root.wake();
        }
    }

    fn idle(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn watch(&self, root: &Waker) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(root.clone());
    }
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum Step<T> {
    /// At this time, which is the target unless it was cut.
    Reached(Duration),
    /// What ran in the foreground returned.
    Returned(T),
}

/// A paused runtime and its place in time.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) part: Part,
    pub(super) clock: PartClock,
    pub(super) cut: Arc<Cut>,
    runtime: Runtime,
}

impl Machine {
    /// Returns a runtime whose clock stands at `now` of the simulation.
    pub(super) fn new(part: Part, now: Duration) -> Self {
        let cut = Arc::new(Cut::default());
        let idle = cut.clone();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // Called when no task is ready, before the paused clock would jump to the next timer.
            .on_thread_park(move || idle.idle())
            .build()
            .expect("a runtime without I/O needs nothing that could be missing");
        let start = runtime.block_on(async { Clock.now() });
        Self {
            part,
            clock: PartClock { start, born: now },
            cut,
            runtime,
        }
    }

    /// Starts a task; it begins with the next step.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Runs `future` to its end, however long that takes on this machine's clock.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs everything up to and including the moment `until`.
    pub(super) fn run(&mut self, until: Duration) -> Duration {
        let nothing = std::future::pending::<()>();
        match self.run_with(until, &mut pin!(nothing)) {
            Step::Reached(at) => at,
            Step::Returned(()) => until,
        }
    }

    /// As [`Machine::run`], with `foreground` polled first.
    pub(super) fn run_with<T, F>(&mut self, until: Duration, foreground: &mut F) -> Step<T>
    where
        F: Future<Output = T> + Unpin,
    {
        let (cut, clock) = (self.cut.clone(), self.clock);
        self.runtime.block_on(async move {
            let mut foreground = std::pin::Pin::new(foreground);
            let mut end = pin!(Clock.sleep_until(clock.instant(until)));
            poll_fn(|cx| {
                if let Poll::Ready(value) = foreground.as_mut().poll(cx) {
                    return Poll::Ready(Step::Returned(value));
                }
                cut.watch(cx.waker());
                let ended = end.as_mut().poll(cx).is_ready();
                if ended || cut.wanted.swap(false, Ordering::SeqCst) {
                    return Poll::Ready(Step::Reached(clock.now()));
                }
                Poll::Pending
            })
            .await
        })
    }

    /// Moves the clock to `now` without running what was due in between at its own time: that is
    /// what a frozen program finds when it thaws.
    pub(super) fn jump(&self, now: Duration) {
        let clock = self.clock;
        self.runtime.block_on(async move {
            let behind = now.saturating_sub(clock.now());
            tokio::time::advance(behind).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A machine with a task that counts ten-millisecond beats.
    fn beating() -> (Machine, Arc<AtomicU64>) {
        let machine = Machine::new(Part::Driver, 1000 * MS);
        let beats = Arc::new(AtomicU64::new(0));
        let count = beats.clone();
        machine.spawn(async move {
            loop {
                Clock.sleep(10 * MS).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        (machine, beats)
    }

    #[test]
    fn a_machine_runs_what_is_due_and_no_further() {
        let (mut machine, beats) = beating();

        assert_eq!(machine.run(1035 * MS), 1035 * MS);
        assert_eq!(beats.load(Ordering::SeqCst), 3);
        assert_eq!(machine.run(1039 * MS), 1039 * MS);
        assert_eq!(beats.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_cut_step_ends_at_the_moment_of_the_cut() {
        let (mut machine, _) = beating();
        let cut = machine.cut.clone();
        machine.spawn(async move {
            Clock.sleep(7 * MS).await;
            cut.when_idle();
        });

        assert_eq!(machine.run(2000 * MS), 1007 * MS);
        assert_eq!(machine.run(2000 * MS), 2000 * MS);
    }

    #[test]
    fn a_thawed_machine_finds_its_clock_moved() {
        let (mut machine, beats) = beating();
        machine.run(1025 * MS);

        machine.jump(1500 * MS);
        machine.run(1505 * MS);

        assert_eq!(
            beats.load(Ordering::SeqCst),
            3,
            "one late beat, not forty-eight"
        );
    }
}
