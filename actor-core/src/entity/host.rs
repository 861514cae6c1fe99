//! The one generic ractor actor that hosts an entity: takes messages from its slot, runs them,
//! survives their panics. What a durable entity stores is decided in `commit.rs`.

use std::{
    any::Any,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, Message};

use super::{
    Handlers,
    delivery::{Delivery, Reply, RowTag},
    directory::Directory,
    slot::{Next, Settled, Shared, Slot},
    snapshot::Unknown,
};
use crate::{
    clock::Instant,
    context::Ctx,
    error::Refusal,
    hosting::{Hosting, Resident},
    id::Epoch,
    mailbox::MailboxRow,
    meter::CallOutcome,
    store::entities::Place,
    wheel::Alarm,
};

/// The first pause before a reload after a panic; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest pause before a reload.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Messages handled before the actor looks at its other ports and lets others run.
const BATCH: usize = 64;

/// Tells a host to look at its slot.
#[derive(Debug)]
pub(crate) struct Poke;

impl Message for Poke {}

struct EntityHost<K>(PhantomData<fn() -> K>);

/// What the host knows of its entity; dropped with the actor, however that ends.
pub(crate) struct Activation<K: Handlers> {
    pub(super) hosting: Arc<Hosting>,
    pub(super) directory: Arc<Directory<K>>,
    pub(super) slot: Shared<K>,
    pub(super) place: Place,
    pub(super) ctx: Ctx<K>,
    pub(super) entity: Option<K>,
    /// The state's bytes after the last accepted message, committed or in flight.
    pub(super) accepted: Arc<[u8]>,
    /// What the stored state holds beyond the entity's type.
    pub(super) unknown: Unknown,
    /// The version of the last accepted state.
    pub(super) version: u64,
    pub(super) lane_activation: u64,
    /// When the handler that runs now, or ran last, began.
    pub(super) began: Instant,
    /// The epoch under which the state was read; writes carry it.
    pub(super) epoch: Epoch,
    /// Its place among the activations in memory.
    pub(super) resident: Resident,
}

/// Starts the actor of a new activation.
pub(super) fn spawn<K: Handlers>(
    hosting: &Arc<Hosting>,
    directory: &Arc<Directory<K>>,
    slot: &Shared<K>,
    resident: Resident,
) -> Result<(), Refusal> {
    let supervisor = hosting.supervisor(slot.shard)?;
    let durable = K::DURABLE.is_some();
    let activation = Box::new(Activation {
        place: Place::new(&slot.key, slot.shard),
        ctx: Ctx::new(hosting.clone(), &slot.key, slot.shard, durable),
        hosting: hosting.clone(),
        directory: directory.clone(),
        slot: slot.clone(),
        entity: None,
        accepted: Arc::default(),
        unknown: Unknown::default(),
        version: 0,
        lane_activation: slot.activation,
        began: hosting.now(),
        epoch: hosting.epoch(slot.shard)?,
        resident,
    });
    let host = EntityHost(PhantomData);
    match ractor::ActorRuntime::spawn_linked_instant(None, host, activation, supervisor) {
        Ok((actor, _started)) => {
            slot.lock().attach(actor);
            Ok(())
        }
        Err(error) => Err(Refusal::Unavailable(
            format!("cannot host the entity: {error}").into(),
        )),
    }
}

impl<K: Handlers> Actor for EntityHost<K> {
    type Msg = Poke;
    // Boxed: ractor's futures hold it by value at several depths, for each actor.
    type State = Box<Activation<K>>;
    type Arguments = Box<Activation<K>>;

    async fn pre_start(
        &self,
        _: ActorRef<Poke>,
        activation: Box<Activation<K>>,
    ) -> Result<Box<Activation<K>>, ActorProcessingErr> {
        Ok(activation)
    }

    async fn handle(
        &self,
        myself: ActorRef<Poke>,
        _: Poke,
        activation: &mut Box<Activation<K>>,
    ) -> Result<(), ActorProcessingErr> {
        let mut now = activation.hosting.now();
        for _ in 0..BATCH {
            if !activation.may_go_on() {
                myself.stop(None); // What is queued is sent on when the activation is dropped.
                return Ok(());
            }
            let pressed = K::DURABLE.is_some() && activation.hosting.lanes().is_pressed();
            match activation.slot.next(now, pressed) {
                Next::Wait => {
                    activation.hosting.became_idle();
                    return Ok(());
                }
                Next::Stop => {
                    myself.stop(None);
                    return Ok(());
                }
                // Boxed like all that is rare, so that the future of the common case stays small:
                // ractor moves it for each message.
                Next::Load => Box::pin(activation.load()).await,
                Next::Run(delivery) => {
                    // A plain `fn` takes no time that matters to deadlines; what awaits does.
                    let instant = K::METHODS[delivery.method].runs_ahead;
                    activation.run(delivery, now).await;
                    if instant {
                        continue;
                    }
                }
            }
            now = activation.hosting.now();
        }
        myself.cast(Poke).map_err(Into::into)
    }
}

impl<K: Handlers> Activation<K> {
    /// Says whether the shard was this node's all the time since the activation was made.
    ///
    /// Invariant: nothing begins on a state that another owner may have changed. A shard that was
    /// lost may be back, under another epoch, while its activations of before are still in memory.
    fn may_go_on(&self) -> bool {
        let slot = &self.slot;
        self.hosting.shards().holds(slot.shard, slot.tenure)
    }

    async fn run(&mut self, mut delivery: Delivery<K>, now: Instant) {
        if delivery.deadline.is_some_and(|deadline| deadline <= now) {
            return self.refuse(delivery, Refusal::Timeout { started: false });
        }
        if delivery.row().is_some() && !Box::pin(self.may_run_row(&mut delivery)).await {
            return;
        }
        if !delivery.rearm() {
            return self.refuse(delivery, Refusal::Decode("the arguments are gone".into()));
        }
        let args = delivery.args.take().expect("just armed");
        self.began = now;
        let row = delivery.row().map(|row| row.message);
        let message = row.or(delivery.identity().map(|identity| identity.id));
        self.ctx
            .turn(message, delivery.request(), delivery.parent());
        let entity = self.entity.as_mut().expect("the slot loads before it runs");
        match caught(entity.handle(args, &mut self.ctx)).await {
            Ok(outcome) => self.finish(delivery, outcome),
            Err(panic) => Box::pin(self.crashed(delivery, &panic)).await,
        }
    }

    /// Answers a message that did not run.
    pub(super) fn refuse(&self, delivery: Delivery<K>, refusal: Refusal) {
        let outcome = match &refusal {
            Refusal::Timeout { .. } => CallOutcome::Timeout,
            Refusal::Overloaded { .. } => CallOutcome::Overloaded,
            Refusal::Crashed(_) => CallOutcome::Crashed,
            _ => CallOutcome::Refused,
        };
        self.directory.meter.call(delivery.method, outcome);
        self.slot.settle(delivery, Settled::Refused(refusal));
    }

    /// A handler panicked: its call ends, the state is thrown away and read again after a pause.
    async fn crashed(&mut self, delivery: Delivery<K>, panic: &str) {
        let method = K::METHODS[delivery.method].name;
        tracing::warn!(entity = %self.slot.key, method, panic, "a handler panicked");
        self.entity = None;
        self.directory.meter.restart();
        self.back_off();
        let text = format!("`{}.{method}` panicked: {panic}", K::KIND);
        if delivery.row().is_some() {
            self.row_failed(delivery, text).await;
        } else {
            self.refuse(delivery, Refusal::Crashed(text.into()));
        }
    }

    /// Holds the entity for a pause that grows with each failure in a row, then reloads it.
    pub(super) fn back_off(&self) {
        self.slot.back_off(&self.hosting);
    }
}

impl<K: Handlers> Slot<K> {
    /// Holds the entity for a pause that grows with each failure in a row, then reloads it.
    pub(super) fn back_off(self: &Arc<Self>, hosting: &Hosting) {
        let mut inner = self.lock();
        let doublings = inner.books.failures.min(16);
        inner.books.failures += 1;
        inner.books.stale = true;
        let pause = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let until = hosting.now() + pause;
        inner.held_until = Some(until);
        drop(inner);
        let slot = Arc::downgrade(self);
        let wake = move || {
            if let Some(slot) = slot.upgrade() {
                slot.lock().poke();
            }
        };
        hosting.wheel().set(until, Alarm::Run(Box::new(wake)));
    }
}

impl<K: Handlers> Drop for Activation<K> {
    fn drop(&mut self) {
        let mut left = self.slot.close();
        left.extend(self.slot.lock().drain());
        for delivery in left {
            let why = Refusal::Unavailable("the entity's activation ended".into());
            self.slot.settle(delivery, Settled::Refused(why));
        }
        self.directory.forget(&self.slot);
    }
}

/// Runs a handler and turns its panic into a text.
async fn caught<T>(handler: impl Future<Output = T>) -> Result<T, String> {
    let mut handler = pin!(handler);
    std::future::poll_fn(move |cx| {
        // The entity is thrown away after a panic, so nobody sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_text(panic.as_ref()))),
        }
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// Makes a message of a row.
pub(super) fn from_row<K: Handlers>(
    hosting: &Hosting,
    row: &MailboxRow,
) -> Result<Delivery<K>, Refusal> {
    let message = &row.message;
    let named = |name: &str| K::METHODS.iter().position(|method| method.name == name);
    let method = named(&message.method).ok_or_else(|| {
        Refusal::NotHosted(format!("kind `{}` has no `{}`", K::KIND, message.method).into())
    })?;
    // What users wrote to decode may panic, and this task is not theirs.
    let decode = AssertUnwindSafe(|| {
        let args = K::decode_args(method, message.codec, &message.args)
            .map_err(|error| Refusal::Decode(error.to_string().into()))?;
        let mut delivery = Delivery::new(args, Reply::Nobody);
        delivery.encode().map_err(super::delivery::unwritable)?;
        Ok(delivery)
    });
    let mut delivery = catch_unwind(decode).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(Refusal::Decode(format!("decoding panicked: {text}").into()))
    })?;
    let rare = delivery.rare();
    rare.request.clone_from(&message.request);
    rare.row = Some(RowTag {
        seq: row.seq,
        message: message.message,
        attempts: row.attempts,
        suspect: hosting.is_suspect(hosting.shard_of(K::KIND, message.id.as_str()), row.seq),
        timer: row.timer,
        expired: row.expired,
    });
    if message.keyed {
        delivery.identify(message.message, K::OPTIONS.key_retention);
    }
    Ok(delivery)
}
