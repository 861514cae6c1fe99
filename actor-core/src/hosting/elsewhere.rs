//! Reaching kinds that other nodes host: what is known of them, and calls that leave at once.

use std::sync::Arc;

use super::{Answer, Hosting};
use crate::{clock::Instant, error::Refusal, router::RoutedCall, store::kinds::KindRow};

impl Hosting {
    /// Returns what is known of a kind that is not hosted here, looking in the database if nobody
    /// here does; gives up at `deadline`.
    ///
    /// # Errors
    /// `NotHosted` if no node ever hosted it, or there is no way to other nodes; `Unavailable` if
    /// the store does not answer in time.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the look.
    pub async fn find_kind(&self, kind: &str, deadline: Instant) -> Result<KindRow, Refusal> {
        let Some(_) = &self.router else {
            return Err(not_hosted(kind));
        };
        loop {
            let looked = self.groups.look_for(&self.store, kind);
            // Dropping either leaves nothing behind.
            let found = tokio::select! {
                biased;
                found = looked => found,
                () = self.clock.sleep_until(deadline) => {
                    let text = format!("where kind `{kind}` lives could not be read in time");
                    return Err(Refusal::Unavailable(text.into()));
                }
            };
            match found {
                Ok(found) => return found.ok_or_else(|| not_hosted(kind)),
                Err(error) => self.pause_before_retry(deadline, error.refusal()).await?,
            }
        }
    }

    /// Makes sure that the shard of entities of this kind can be computed, here and at once.
    ///
    /// # Errors
    /// As [`Hosting::find_kind`]; none without a way to other nodes, where all is in one place.
    pub async fn locate(&self, kind: &str, deadline: Instant) -> Result<(), Refusal> {
        if self.locates(kind) {
            return Ok(());
        }
        self.find_kind(kind, deadline).await.map(drop)
    }

    /// Says whether the shard of entities of this kind can be computed without a look.
    pub fn locates(&self, kind: &str) -> bool {
        self.router.is_none() || self.groups.knows(kind)
    }

    /// Makes a call of a kind that is not hosted here.
    pub(crate) fn send_elsewhere(self: &Arc<Self>, call: RoutedCall) -> Answer {
        let hosting = self.clone();
        Box::pin(async move {
            let kind = &call.invocation.kind;
            hosting.locate(kind, call.deadline).await?;
            let router = hosting.router.as_ref().ok_or_else(|| not_hosted(kind))?;
            router.invoke(call).await
        })
    }
}

fn not_hosted(kind: &str) -> Refusal {
    Refusal::NotHosted(format!("kind `{kind}` is not hosted here").into())
}
