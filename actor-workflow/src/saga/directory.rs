//! The runs of one workflow kind on one node: finds or makes their activations, and speaks for the
//! kind by name.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actor_core::{
    Client, EntityId, Invocation, Refusal, ShardId,
    clock::{Clock, Instant},
    entity::{Encoded, EventHandler, Method},
    hosting::{Answer, Hosted, Hosting, KindStats, Role, Target},
    id::EntityKey,
    mailbox::MailboxRow,
    meter::{CallOutcome, Meter},
    store::{BoxFuture, StoreError},
    wheel::Alarm,
};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{
    PAYLOAD_BYTES_MAX, host,
    slot::{Asked, Question, Slot},
    state::Status,
};
use crate::{
    overview,
    workflow::{Recipe, RecipeOf, Run},
};

/// How long a resting run stays in memory: a few polls by its starter are answered without a read.
const IDLE: Duration = Duration::from_secs(10);

/// The longest a caller of `result` may wait at once.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What a run can be asked by name.
const METHODS: &[Method] = &[
    method("start", &[], true, "Starts the run with this input, once."),
    method(
        "result",
        &["wait_ms"],
        false,
        "Waits for the end and returns the state.",
    ),
    method(
        "cancel",
        &[],
        true,
        "Ends the run early; its steps are undone.",
    ),
    method("pause", &[], true, "Stops the run at the next safe point."),
    method("resume", &[], true, "Lets a paused or stuck run go on."),
];

const fn method(
    name: &'static str,
    args: &'static [&'static str],
    writes: bool,
    docs: &'static str,
) -> Method {
    Method {
        name,
        args,
        writes,
        idempotent: false,
        runs_ahead: false,
        callable: true,
        docs,
    }
}

/// The arguments of `result`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// The runs of one workflow kind on one node.
pub struct Sagas {
    pub(crate) recipe: Arc<dyn Recipe>,
    slots: Mutex<BTreeMap<EntityId, Arc<Slot>>>,
    pub(crate) meter: Meter,
}

impl Sagas {
    /// Returns the host of workflow `W`, without runs.
    pub(crate) fn of<W: Run>() -> Self {
        Self {
            recipe: Arc::new(RecipeOf::<W>(PhantomData)),
            slots: Mutex::default(),
            meter: Meter::new(W::KIND, METHODS),
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<EntityId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the run's activation, making it if need be.
    fn slot(self: &Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<Arc<Slot>, Refusal> {
        let found = self.slots().get(id).cloned();
        if let Some(slot) = found {
            if hosting.shards().holds(slot.shard, slot.tenure) {
                return Ok(slot);
            }
            // The shard was lost, and may be back: somebody else may have carried the run on.
            slot.close();
            self.forget(&slot);
        }
        if !id.is_valid() {
            return Err(Refusal::Decode(
                "a run's id has 1 to 512 bytes and no NUL".into(),
            ));
        }
        hosting.accepting()?;
        let kind = self.recipe.kind();
        let shard = hosting.shard_of(kind, id.as_str());
        let tenure = hosting.shards().tenure(shard);
        hosting.admits(shard)?;
        let slot = {
            let mut slots = self.slots();
            if let Some(slot) = slots.get(id) {
                return Ok(slot.clone());
            }
            let key = EntityKey {
                kind,
                id: id.clone(),
            };
            let slot = Arc::new(Slot::new(key, (shard, tenure), hosting.now()));
            slots.insert(id.clone(), slot.clone());
            slot
        };
        if let Err(refusal) = host::spawn(hosting, self, &slot) {
            self.forget(&slot);
            return Err(refusal);
        }
        watch_idle(hosting, &slot, hosting.now());
        Ok(slot)
    }

    fn of_shards(&self, shards: &[ShardId], act: impl Fn(&Slot)) {
        for slot in self.slots().values() {
            if shards.binary_search(&slot.shard).is_ok() {
                act(slot);
            }
        }
    }

    /// Removes an activation that ended, so that the next question makes a new one.
    pub(crate) fn forget(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        let id = &slot.key.id;
        if slots
            .get(id)
            .is_some_and(|current| Arc::ptr_eq(current, slot))
        {
            slots.remove(id);
        }
    }

    /// Asks a run; asks again, while there is time, if its activation ended meanwhile.
    async fn ask(
        self: &Arc<Self>,
        hosting: &Arc<Hosting>,
        id: &EntityId,
        question: Question,
        deadline: Instant,
    ) -> Result<Status, Refusal> {
        loop {
            match self.ask_once(hosting, id, question.clone(), deadline).await {
                Err(refusal @ Refusal::Unavailable(_)) => {
                    if hosting.moved(hosting.shard_of(self.recipe.kind(), id.as_str())) {
                        return Err(refusal); // Whoever asked looks for the next owner.
                    }
                    hosting.pause_before_retry(deadline, refusal).await?;
                }
                other => return other,
            }
        }
    }

    async fn ask_once(
        self: &Arc<Self>,
        hosting: &Arc<Hosting>,
        id: &EntityId,
        question: Question,
        deadline: Instant,
    ) -> Result<Status, Refusal> {
        let (reply, answer) = oneshot::channel();
        let mut asked = Asked { question, reply };
        loop {
            let slot = self.slot(hosting, id)?;
            match slot.ask(asked) {
                Ok(()) => break,
                Err(back) => {
                    asked = back;
                    self.forget(&slot);
                }
            }
        }
        // Dropping the receiver abandons the answer, nothing else.
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| {
                Err(Refusal::Unavailable("the run's activation ended".into()))
            }),
            () = hosting.clock().sleep_until(deadline) => Err(Refusal::Timeout { started: true }),
        }
    }

    /// Waits until the run is over, at most `wait`, and returns how it is then.
    async fn result(
        self: &Arc<Self>,
        hosting: &Arc<Hosting>,
        id: &EntityId,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Status, Refusal> {
        let status = self.ask(hosting, id, Question::Status, deadline).await?;
        if status.state.is_final() || wait.is_zero() {
            return Ok(status);
        }
        let until = hosting.now() + wait.min(WAIT_MAX);
        match self.ask(hosting, id, Question::Final, until).await {
            Err(Refusal::Timeout { .. } | Refusal::Unavailable(_)) => {
                let deadline = deadline.max(until + actor_core::client::CALL_TIMEOUT);
                self.ask(hosting, id, Question::Status, deadline).await
            }
            other => other,
        }
    }

    async fn invoke_here(
        self: Arc<Self>,
        client: Client,
        invocation: Invocation,
    ) -> Result<Encoded, Refusal> {
        let (hosting, id, codec) = (client.hosting(), &invocation.id, invocation.reply);
        let deadline = hosting.deadline(invocation.timeout);
        let index = METHODS
            .iter()
            .position(|method| method.name == &*invocation.method);
        let index = index.ok_or_else(|| self.no_method(&invocation.method))?;
        let asked = async {
            let question = match &*invocation.method {
                "start" => Question::Start(self.input(&invocation)?, client.request().cloned()),
                "cancel" => Question::Cancel,
                "pause" => Question::Pause,
                "resume" => Question::Resume,
                _ => {
                    let wait = Duration::from_millis(wait(&invocation)?.wait_ms);
                    return self.result(hosting, id, wait, deadline).await;
                }
            };
            self.ask(hosting, id, question, deadline).await
        };
        let answer = asked.await;
        self.meter.call(index, outcome(&answer));
        let written = self.recipe.status(id, &answer?, codec);
        let bytes = written.map_err(|error| Refusal::Decode(error.to_string().into()))?;
        Ok(Encoded { ok: true, bytes })
    }

    fn no_method(&self, name: &str) -> Refusal {
        let kind = self.recipe.kind();
        let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        let names = names.join("`, `");
        Refusal::NotHosted(format!("workflow `{kind}` has `{names}`, not `{name}`").into())
    }

    fn input(&self, invocation: &Invocation) -> Result<Arc<[u8]>, Refusal> {
        let kind = self.recipe.kind();
        let input = self.recipe.input(invocation.codec, &invocation.args);
        let input = input
            .map_err(|error| Refusal::Decode(format!("the input of `{kind}`: {error}").into()))?;
        if input.len() > PAYLOAD_BYTES_MAX {
            let size = input.len();
            return Err(Refusal::TooLarge(
                format!("the input has {size} bytes, 1 MiB is accepted").into(),
            ));
        }
        Ok(input.into())
    }
}

fn wait(invocation: &Invocation) -> Result<Wait, Refusal> {
    if invocation.args.is_empty() {
        return Ok(Wait::default());
    }
    let read = invocation.codec.decode(&invocation.args);
    read.map_err(|error| Refusal::Decode(format!("the arguments of `result`: {error}").into()))
}

fn outcome(answer: &Result<Status, Refusal>) -> CallOutcome {
    match answer {
        Ok(_) => CallOutcome::Ok,
        Err(Refusal::Timeout { .. }) => CallOutcome::Timeout,
        Err(Refusal::Overloaded { .. }) => CallOutcome::Overloaded,
        Err(_) => CallOutcome::Refused,
    }
}

/// Rings when the run may have rested for long enough; rings again if it did not.
fn watch_idle(hosting: &Arc<Hosting>, slot: &Arc<Slot>, since: Instant) {
    let (weak, slot) = (Arc::downgrade(hosting), Arc::downgrade(slot));
    let look = move || {
        if let (Some(hosting), Some(slot)) = (weak.upgrade(), slot.upgrade())
            && let Some(used) = slot.close_if_idle(hosting.now(), IDLE)
        {
            watch_idle(&hosting, &slot, used);
        }
    };
    hosting
        .wheel()
        .set(since + IDLE, Alarm::Run(Box::new(look)));
}

impl Hosted for Sagas {
    fn kind(&self) -> &'static str {
        self.recipe.kind()
    }

    fn group(&self) -> &'static str {
        self.recipe.group()
    }

    fn role(&self) -> Role {
        Role::Workflow
    }

    fn exposed(&self) -> bool {
        self.recipe.exposed()
    }

    fn methods(&self) -> &'static [Method] {
        METHODS
    }

    fn events(&self) -> &'static [EventHandler] {
        &[]
    }

    fn invoke(self: Arc<Self>, client: Client, invocation: Invocation) -> Answer {
        Box::pin(self.invoke_here(client, invocation))
    }

    fn ring(self: Arc<Self>, hosting: &Arc<Hosting>, id: &EntityId) -> Result<(), Refusal> {
        loop {
            let slot = self.slot(hosting, id)?;
            if slot.ring() {
                return Ok(());
            }
            self.forget(&slot);
        }
    }

    fn deliver(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
        row: &MailboxRow,
        _: u64,
    ) -> Result<(), Refusal> {
        self.ring(hosting, &row.message.id)
    }

    fn targets(&self) -> Vec<Target> {
        let target = |slot: &Arc<Slot>| Target {
            id: slot.key.id.clone(),
            shard: slot.shard,
            depth: slot.depth(),
            idle_since: slot.idle_since(),
            failures: 0,
        };
        self.slots().values().map(target).collect()
    }

    fn holds(&self, id: &EntityId, _seq: i64) -> bool {
        self.slots().get(id).is_some_and(|slot| slot.holds())
    }

    fn evict(&self, id: &EntityId) -> bool {
        let slot = self.slots().get(id).cloned();
        slot.is_some_and(|slot| slot.close_if_idle(Clock.now(), Duration::ZERO).is_none())
    }

    fn retire(&self, shards: &[ShardId]) {
        self.of_shards(shards, Slot::retire);
    }

    fn cut_off(&self, shards: &[ShardId]) {
        // What the journal lacks is done again by the next owner.
        self.of_shards(shards, Slot::close);
    }

    fn stop_shards(&self, shards: Option<&[ShardId]>) {
        for slot in self.slots().values() {
            if shards.is_none_or(|shards| shards.binary_search(&slot.shard).is_ok()) {
                slot.close();
            }
        }
    }

    fn stats(&self) -> KindStats {
        let slots = self.slots();
        KindStats {
            resident: slots.len(),
            mailbox_depth: slots.values().map(|slot| slot.depth()).sum(),
        }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn sweep(
        self: Arc<Self>,
        hosting: &Arc<Hosting>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let store = hosting.store().clone();
        Box::pin(async move { overview::sweep(&store).await })
    }
}

impl fmt::Debug for Sagas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sagas({}, {} resident)",
            self.recipe.kind(),
            self.slots().len()
        )
    }
}
