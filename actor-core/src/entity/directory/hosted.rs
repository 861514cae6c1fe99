//! A kind of entities as its node sees it: called by name, handed stored messages, emptied.
//!
//! Not here: finding and making activations (`directory`).

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Directory, refusal_is_retried, role};
use crate::{
    client::{Client, Invocation, Mode},
    clock::{Clock, Instant},
    codec::Codec,
    entity::{
        Encoded, EventHandler, Handlers, Method, Takeover,
        delivery::Reply,
        host,
        slot::{RowAdmission, Settled, Shared},
    },
    error::Refusal,
    hosting::{Answer, Hosted, Hosting, KindStats, Role, Target},
    id::{CallId, EntityId, ShardId},
    mailbox::MailboxRow,
    meter::Meter,
};

/// When a timer whose entity had no room is offered again.
const ROW_RETRY: Duration = Duration::from_millis(20);

impl<K: Handlers> Directory<K> {
    fn method(name: &str) -> Result<usize, Refusal> {
        let found = K::METHODS
            .iter()
            .position(|method| method.callable && method.name == name);
        found.ok_or_else(|| {
            Refusal::NotHosted(format!("kind `{}` has no method `{name}`", K::KIND).into())
        })
    }

    fn decode(method: usize, codec: Codec, bytes: &[u8]) -> Result<K::Args, Refusal> {
        K::decode_args(method, codec, bytes).map_err(|error| {
            let name = K::METHODS[method].name;
            Refusal::Decode(format!("arguments of `{}.{name}`: {error}", K::KIND).into())
        })
    }

    async fn invoke_here(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: Option<CallId>,
    ) -> Result<Encoded, Refusal> {
        let method = Self::method(&invocation.method)?;
        let decoded = || Self::decode(method, invocation.codec, &invocation.args);
        let args = decoded()?;
        if invocation.mode == Mode::Cast {
            // One id each time, however it is sent, or a re-run of the sender counts differently.
            let derived = message.filter(|_| client.derives());
            let derived = derived.map(|id| (id, client.recall()));
            let call = invocation
                .call
                .map(|id| (id, invocation.recall))
                .or(derived);
            // Boxed like the pause below, so that the future of a call stays small.
            Box::pin(client.cast::<K>(&self, &invocation.id, args, call)).await?;
            return Ok(Encoded {
                ok: true,
                bytes: Vec::new(),
            });
        }
        let deadline = client.hosting.deadline(invocation.timeout);
        let shard = client.hosting.shard_of(K::KIND, invocation.id.as_str());
        let mut first = Some(args);
        loop {
            let args = first.take().map_or_else(decoded, Ok)?;
            let (sender, receiver) = oneshot::channel();
            let reply = Reply::Wire(invocation.reply, sender);
            let delivery = client.delivery::<K>(
                &invocation.id,
                args,
                reply,
                Some(deadline),
                invocation.call.map(|call| (call, invocation.recall)),
                message,
            )?;
            let answer = async {
                let queued = self.admit(&client.hosting, &invocation.id, &mut Some(delivery))?;
                client.hosting.answer_by(deadline, receiver, queued).await
            };
            match answer.await {
                Err(refusal)
                    if refusal_is_retried::<K>(
                        &refusal,
                        invocation.call.is_some(),
                        client.hosting.is_held(K::KIND, shard),
                    ) && !client.hosting.moved(shard) =>
                {
                    Box::pin(client.hosting.pause_before_retry(deadline, refusal)).await?;
                }
                other => return other,
            }
        }
    }
}

impl<K: Handlers> Hosted for Directory<K> {
    fn kind(&self) -> &'static str {
        K::KIND
    }

    fn group(&self) -> &'static str {
        K::GROUP
    }

    fn role(&self) -> Role {
        role::<K>()
    }

    fn exposed(&self) -> bool {
        K::OPTIONS.exposed
    }

    fn takeover(&self) -> Takeover {
        K::OPTIONS.takeover
    }

    fn methods(&self) -> &'static [Method] {
        K::METHODS
    }

    fn events(&self) -> &'static [EventHandler] {
        K::EVENTS
    }

    fn invoke(self: Arc<Self>, client: Client, invocation: Invocation) -> Answer {
        Box::pin(self.invoke_here(client, invocation, None))
    }

    fn invoke_as(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
        message: CallId,
    ) -> Answer {
        Box::pin(self.invoke_here(client, invocation, Some(message)))
    }

    fn deliver(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
        row: &MailboxRow,
        since: u64,
    ) -> Result<(), Refusal> {
        loop {
            let slot = self.slot(hosting, &row.message.id)?;
            let delivery = host::from_row::<K>(hosting, row)?;
            match slot.admit_row(delivery, row.seq, since, hosting.looks()) {
                RowAdmission::Known => return Ok(()),
                RowAdmission::Full => {
                    return Err(Refusal::Overloaded {
                        retry_after: ROW_RETRY,
                    });
                }
                RowAdmission::Closed => self.next_activation(hosting, &slot)?,
            }
        }
    }

    fn ring(self: Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<(), Refusal> {
        self.slot(hosting, id)?.ring();
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let target = |slot: Shared<K>| Target {
            shard: slot.shard,
            depth: slot.depth(),
            idle_since: slot.idle_since(),
            failures: slot.lock().books.failures,
            id: slot.key.id.clone(),
        };
        self.of_shards(None).into_iter().map(target).collect()
    }

    fn idle(&self) -> Vec<(Instant, EntityId)> {
        // Looked at outside the parts' locks, so that callers do not wait for all of them.
        let idle = |slot: Shared<K>| Some((slot.idle_since()?, slot.key.id.clone()));
        let all = self.slots(|_| true).into_iter();
        all.filter_map(idle).collect()
    }

    fn holds(&self, id: &EntityId, seq: i64) -> bool {
        self.part(id)
            .get(id)
            .is_some_and(|slot| slot.lock().books.holds(seq))
    }

    fn evict(&self, id: &EntityId) -> bool {
        let slot = self.part(id).get(id).cloned();
        slot.is_some_and(|slot| slot.close_if_idle(Clock.now(), Duration::ZERO).is_none())
    }

    fn retire(&self, shards: &[ShardId]) {
        for slot in self.of_shards(Some(shards)) {
            slot.retire();
        }
    }

    fn cut_off(&self, shards: &[ShardId]) {
        for slot in self.of_shards(Some(shards)) {
            slot.cut_off();
        }
    }

    fn stop_shards(&self, shards: Option<&[ShardId]>) {
        for slot in self.of_shards(shards) {
            for delivery in slot.close() {
                let refusal = Refusal::Unavailable("the entity's node is stopping".into());
                slot.settle(delivery, Settled::Refused(refusal));
            }
        }
    }

    fn stats(&self) -> KindStats {
        let mut stats = KindStats::default();
        for slot in self.slots(|_| true) {
            stats.resident += 1;
            stats.mailbox_depth += slot.depth();
        }
        stats
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}
