//! Tells listeners of what was announced and did not come: notes between nodes get lost, and the
//! events of a commit whose end was unclear are told by nobody.
//!
//! A gap shows itself by the next event. A last event that was lost shows by nothing, so the places
//! of the topics that somebody listens to are compared with their rows every two seconds. Not here:
//! a listener that fell behind by itself, which reads the history on its own.

use std::{sync::Arc, time::Duration};

use super::{Topics, history, order::EARLY_MAX};
use crate::{
    clock::{Clock, Instant, Rng},
    store::{Store, StoreError, topics},
};

/// The time between two looks for lost last events, +-20 %; also the pause after the store did not
/// answer.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Topics a look compares, so that it stays one cheap statement; those of a node that listens to
/// more have their turns.
const LOOK_TOPICS: usize = 1024;

/// Events that are read and told at once: those listeners who kept up can queue them.
const PAGE: usize = EARLY_MAX;

/// The gaps in what the listeners of one node are told.
#[derive(Debug)]
pub(crate) struct Gaps {
    pub(crate) topics: Arc<Topics>,
    pub(crate) store: Store,
    pub(crate) rng: Rng,
}

impl Gaps {
    /// Closes them until the node stops. Does nothing while nobody listens.
    pub(crate) async fn run(self) {
        let mut look_at = Clock.now();
        // The topic up to which topics were compared.
        let mut compared = None;
        loop {
            if self.topics.subscriptions() == 0 {
                self.topics.stirred().await;
                look_at = self.next_look();
                continue;
            }
            let (late, next) = self.topics.late(Clock.now());
            let looks = Clock.now() >= look_at;
            if late.is_empty() && !looks {
                let until = next.map_or(look_at, |next| next.min(look_at));
                // Both arms only wait.
                tokio::select! {
                    biased;
                    () = self.topics.stirred() => {}
                    () = Clock.sleep_until(until) => {}
                }
                continue;
            }
            if looks {
                look_at = self.next_look();
            }
            if let Err(error) = self.catch_up(&late, looks.then_some(&mut compared)).await {
                tracing::warn!(%error, "what listeners missed was not read");
                Clock.sleep(self.rng.jitter(LOOK_EVERY, 20)).await;
            }
        }
    }

    fn next_look(&self) -> Instant {
        Clock.now() + self.rng.jitter(LOOK_EVERY, 20)
    }

    /// Reads what is late, and compares the topics that are next if it is time to.
    async fn catch_up(
        &self,
        late: &[Arc<str>],
        compared: Option<&mut Option<Arc<str>>>,
    ) -> Result<(), StoreError> {
        for topic in late {
            self.recall(topic).await?;
        }
        match compared {
            Some(compared) => self.look(compared).await,
            None => Ok(()),
        }
    }

    /// Reads what a topic's listeners miss, and tells them.
    async fn recall(&self, topic: &Arc<str>) -> Result<(), StoreError> {
        while let Some(told) = self.topics.told(topic) {
            let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
            let history = history::read(&self.store, topic, Some(told), limit).await?;
            if history.events.len() < PAGE || !history.recovered {
                self.topics.recalled(topic, told, &history);
                break;
            }
            self.topics.tell_all(&history.events);
        }
        Ok(())
    }

    /// Compares how far listeners were told with the rows of their topics.
    async fn look(&self, compared: &mut Option<Arc<str>>) -> Result<(), StoreError> {
        let names = self.topics.begun(compared.as_ref(), LOOK_TOPICS);
        *compared = names.last().filter(|_| names.len() == LOOK_TOPICS).cloned();
        if names.is_empty() {
            return Ok(());
        }
        let read = self.store.read("topic positions", move |connection| {
            Box::pin(async move { topics::positions(connection, &names).await })
        });
        for (topic, position) in read.await? {
            // It may be on its way: it is read only if it does not come.
            self.topics.hear(&topic, position.into());
        }
        Ok(())
    }
}
