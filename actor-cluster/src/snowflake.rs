//! Makes ids that no node of the cluster makes twice (architecture, invariant of
//! [`machines`](actor_core::store::machines)).
//!
//! A node leases a number and a stretch of time for it, and asks for more when half of the stretch
//! is used, so a node that makes no ids costs nothing. Time is the database's, as told with the
//! last stretch, and goes on by the node's monotonic clock: nobody's time of day matters, and a
//! database clock that steps back is noticed only when a stretch is asked for.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::{
    clock::{Clock, Instant},
    error::Refusal,
    id::Snowflake,
    router::IdSource,
    shards::Shards,
    store::{
        BoxFuture, Store, StoreError,
        machines::{self, Stretch},
    },
};

/// How long a stretch is. A node that dies takes its number with it for that long.
const STRETCH: Duration = Duration::from_secs(60);

/// The longest a caller waits for the next millisecond to come.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The pause after a stretch could not be had, while the present one lasts.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What came of asking for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Here it is.
    Made(Snowflake),
    /// All of this millisecond are made, or time stepped back: ask again after that.
    Wait(Duration),
    /// The stretch is used up.
    Over,
    /// Time is outside of what an id can say.
    NoTime,
}

/// Ids under one number, in growing order. Pure: it is told the time.
#[derive(Debug)]
struct Sequence {
    stretch: Stretch,
    last_ms: i64,
    /// The next one in `last_ms`; all are made when it is [`Snowflake::PER_MS`].
    next: u16,
}

impl Sequence {
    fn new(stretch: Stretch) -> Self {
        Self {
            stretch,
            last_ms: stretch.from_ms - 1,
            next: Snowflake::PER_MS,
        }
    }

    /// Goes on in a longer stretch of the same number, or under another number.
    fn extend(&mut self, stretch: Stretch) {
        if stretch.machine == self.stretch.machine && stretch.from_ms == self.stretch.from_ms {
            self.stretch = stretch;
        } else {
            // Behind what was made before: the ids of a node grow.
            let last_ms = self.last_ms.max(stretch.from_ms - 1);
            *self = Self {
                last_ms,
                ..Self::new(stretch)
            };
        }
    }

    /// Makes the id of this moment.
    ///
    /// Invariant: each pair of time and sequence is given once, and no time outside the stretch.
    fn next(&mut self, now_ms: i64) -> Next {
        // When time steps back, what is left of the last millisecond is used; then it is waited
        // for.
        let at_ms = now_ms.max(self.last_ms);
        if at_ms > self.stretch.until_ms {
            return Next::Over;
        }
        if at_ms > self.last_ms {
            (self.last_ms, self.next) = (at_ms, 0);
        }
        if self.next == Snowflake::PER_MS {
            let wait_ms = (self.last_ms + 1).saturating_sub(now_ms);
            return Next::Wait(Duration::from_millis(wait_ms.max(1).cast_unsigned()));
        }
        let Some(id) = Snowflake::from_parts(at_ms, self.stretch.machine, self.next) else {
            return Next::NoTime;
        };
        self.next += 1;
        Next::Made(id)
    }
}

/// What is known between two calls.
#[derive(Debug, Default)]
struct State {
    sequence: Option<Sequence>,
    /// The database's time at a moment of the node's clock.
    anchor: Option<(i64, Instant)>,
    /// When to ask for the next stretch.
    ask_at: Option<Instant>,
    closed: bool,
}

impl State {
    fn now_ms(&self, now: Instant) -> Option<i64> {
        let (at_ms, at) = self.anchor?;
        let since = now.saturating_duration_since(at).as_millis();
        Some(at_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX)))
    }

    fn next(&mut self, now: Instant) -> Next {
        match (self.now_ms(now), &mut self.sequence) {
            (Some(now_ms), Some(sequence)) => sequence.next(now_ms),
            _ => Next::Over,
        }
    }
}

/// The ids of one life of a node.
pub(crate) struct Snowflakes {
    store: Store,
    shards: Arc<Shards>,
    state: Mutex<State>,
    /// Held while a stretch is asked for.
    asking: tokio::sync::Mutex<()>,
}

impl Snowflakes {
    pub(crate) fn new(store: Store, shards: Arc<Shards>) -> Self {
        Self {
            store,
            shards,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Makes no more ids; returns the time in the last one if a number was leased.
    pub(crate) fn close(&self) -> Option<i64> {
        let mut state = self.state();
        state.closed = true;
        state.sequence.as_ref().map(|sequence| sequence.last_ms)
    }

    async fn make(&self) -> Result<Snowflake, Refusal> {
        let give_up = Clock.now() + WAIT_MAX;
        loop {
            let now = Clock.now();
            let (next, ask) = {
                let mut state = self.state();
                self.may_make(&state, now)?;
                let ask = state.ask_at.is_none_or(|ask_at| now >= ask_at);
                (state.next(now), ask)
            };
            match next {
                Next::Made(id) => {
                    if ask {
                        self.ask_early().await;
                    }
                    return Ok(id);
                }
                Next::Wait(wait) if now + wait > give_up => {
                    return Err(unavailable(format_args!(
                        "ids go on in {wait:?}: more were asked for than there are, or the \
                         database's clock stepped back"
                    )));
                }
                Next::Wait(wait) => Clock.sleep(wait).await,
                Next::Over if now >= give_up => {
                    return Err(unavailable("the store was slower than ids were made"));
                }
                Next::Over => self.ask().await?,
                Next::NoTime => {
                    return Err(unavailable("the database's clock stands before 2025"));
                }
            }
        }
    }

    /// The stretches keep ids apart; this only keeps a node quiet that should serve nothing.
    fn may_make(&self, state: &State, now: Instant) -> Result<(), Refusal> {
        if state.closed {
            return Err(unavailable("the node is stopping"));
        }
        if !self.shards.lease_holds(now) {
            return Err(unavailable("the node's lease is over"));
        }
        Ok(())
    }

    /// Asks for more time before the present stretch is over. One caller does; if it fails, there
    /// is time to try again.
    async fn ask_early(&self) {
        let Ok(_asking) = self.asking.try_lock() else {
            return;
        };
        if let Err(error) = self.lease().await {
            tracing::warn!(%error, "no more ids could be leased, yet");
            self.state().ask_at = Some(Clock.now() + ASK_AGAIN);
        }
    }

    /// Asks for a stretch, unless somebody got one meanwhile.
    async fn ask(&self) -> Result<(), Refusal> {
        let _asking = self.asking.lock().await;
        if self.state().next_is_over(Clock.now()) {
            self.lease().await?;
        }
        Ok(())
    }

    async fn lease(&self) -> Result<(), Refusal> {
        let (node, life) = (self.shards.node().clone(), self.shards.incarnation());
        let sent = Clock.now();
        let leased = self.store.write("lease ids", move |c| {
            Box::pin(async move { machines::lease(c, &node, life, STRETCH).await })
        });
        // An answer that got lost does no harm: whoever asks next finds the row.
        let failed = |error: StoreError| unavailable(format_args!("no ids are leased: {error}"));
        let leased = leased.await.map_err(failed)?;
        let Some(stretch) = leased else {
            return Err(unavailable(
                "all 1024 machine ids are taken: other nodes make ids with them, or did within \
                 the last minute",
            ));
        };
        let mut state = self.state();
        state.anchor = Some((stretch.now_ms, sent));
        state.ask_at = Some(sent + STRETCH / 2);
        match &mut state.sequence {
            Some(sequence) => sequence.extend(stretch),
            none => *none = Some(Sequence::new(stretch)),
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says whether nothing can be made before a stretch is leased.
    fn next_is_over(&self, now: Instant) -> bool {
        let last = self.sequence.as_ref();
        let until = last.map(|sequence| (sequence.last_ms, sequence.stretch.until_ms));
        match (self.now_ms(now), until) {
            (Some(now_ms), Some((last_ms, until_ms))) => now_ms.max(last_ms) > until_ms,
            _ => true,
        }
    }
}

impl IdSource for Snowflakes {
    fn snowflake(&self) -> BoxFuture<'_, Result<Snowflake, Refusal>> {
        Box::pin(self.make())
    }
}

impl fmt::Debug for Snowflakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snowflakes").field(&*self.state()).finish()
    }
}

fn unavailable(why: impl fmt::Display) -> Refusal {
    Refusal::Unavailable(why.to_string().into())
}

#[cfg(test)]
mod tests;
