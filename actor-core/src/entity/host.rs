//! The one generic ractor actor that hosts an entity: takes messages from its slot, runs them,
//! survives their panics. What a durable entity stores is decided in `commit.rs`.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, Message};

use super::{
    Handlers, Takeover,
    delivery::{Delivery, Reply, RowTag},
    directory::Directory,
    slot::{Next, Settled, Shared, Slot},
    snapshot::Unknown,
};
use crate::{
    caught::{Broken, caught},
    clock::Instant,
    codec::CodecError,
    context::{Ctx, Turn},
    error::Refusal,
    hosting::{Hosting, Resident, gone},
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

/// Why a node that may not answer any more does not.
pub(super) const LEASE_OVER: &str = "the node's lease ran out";

/// Why a node does not begin what another one may do by now.
pub(super) const GONE: &str = "the entity's shard is another node's";

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
                    activation.rests();
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
                    now = activation.run(delivery, now).await;
                    continue;
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
    pub(super) fn may_go_on(&self) -> bool {
        let slot = &self.slot;
        self.hosting.shards().holds(slot.shard, slot.tenure)
    }

    /// There is nothing to do: tells who waits for room if it is idle, and does not just wait for
    /// its commits.
    fn rests(&self) {
        if self.hosting.lacks_room() && self.slot.idle_since().is_some() {
            self.hosting.became_idle();
        }
    }

    /// Handles a message at the time `now`; returns the time at its end.
    async fn run(&mut self, mut delivery: Delivery<K>, mut now: Instant) -> Instant {
        if delivery.deadline.is_some_and(|deadline| deadline <= now) {
            self.refuse(delivery, Refusal::Timeout { started: false });
            return now;
        }
        if delivery.row().is_some() {
            if !Box::pin(self.may_run_row(&mut delivery)).await {
                return self.hosting.now();
            }
        } else if K::DURABLE.is_none() && !self.hosting.shards().lease_holds(now) {
            // Nothing fences a volatile entity but the lease: another node may have it already.
            self.refuse(delivery, Refusal::Unavailable(LEASE_OVER.into()));
            return now;
        }
        if delivery.may_be_done() {
            match Box::pin(self.unless_done(delivery)).await {
                Some(undone) => (delivery, now) = (undone, self.hosting.now()),
                None => return self.hosting.now(),
            }
        }
        if !delivery.rearm() {
            self.refuse(delivery, Refusal::Decode("the arguments are gone".into()));
            return now;
        }
        let args = delivery.args.take().expect("just armed");
        self.began = now;
        self.ctx.turn(Turn {
            message: delivery.message(),
            recall: delivery.recall(),
            request: delivery.request(),
            parent: delivery.parent(),
        });
        let entity = self.entity.as_mut().expect("the slot loads before it runs");
        let (hosting, slot) = (&self.hosting, &self.slot);
        let may_step = || K::OPTIONS.takeover == Takeover::Early || slot.may_step(hosting);
        let handled = caught(entity.handle(args, &mut self.ctx), may_step).await;
        // What was sent so far is this message's, whatever comes of it; what is sent later is not.
        let effects = self.ctx.take_effects();
        // A plain `fn` takes no time that matters to deadlines and leases; what awaits does.
        let ended = match K::METHODS[delivery.method].runs_ahead {
            true => now,
            false => self.hosting.now(),
        };
        let crash = match handled {
            Ok(outcome) => self.finish(delivery, outcome, effects, ended),
            Err(Broken::Panicked(panic)) => Some(Box::new((delivery, panic))),
            Err(Broken::Late { began }) => {
                self.late(delivery, began);
                None
            }
        };
        if let Some(crash) = crash {
            let (delivery, panic) = *crash;
            Box::pin(self.crashed(delivery, &panic)).await;
            return self.hosting.now();
        }
        ended
    }

    /// A handler that must not run at two nodes at once was dropped: another node may run it now.
    fn late(&self, delivery: Delivery<K>, began: bool) {
        tracing::warn!(entity = %self.slot.key, "its shard is another node's: it ends");
        // What the handler left half done goes with the activation.
        self.slot.lock().closed = true;
        let refusal = match began {
            true => gone(),
            false => Refusal::Unavailable(GONE.into()),
        };
        self.refuse(delivery, refusal);
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

    /// A handler panicked, or what writes its state or outcome down: its call ends, the state is
    /// thrown away and read again after a pause.
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
    /// Says whether a handler that no other node may run at the same time may go on.
    fn may_step(&self, hosting: &Hosting) -> bool {
        hosting.shards().may_step(self.shard, hosting.now()) && !self.lock().closed
    }

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
        let (alarm, over) = self.slot.ended();
        if let Some(alarm) = alarm {
            // Until it rings it would keep the slot's memory, which no bound sees any more.
            self.hosting.wheel().cancel(alarm);
        }
        if over {
            // Otherwise the last verdict does it.
            self.hosting.lanes().forget(self.lane_activation);
        }
    }
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
    let unreadable = |error: CodecError| Refusal::Decode(error.to_string().into());
    let args = K::decode_args(method, message.codec, &message.args).map_err(unreadable)?;
    let mut delivery = Delivery::new(args, Reply::Nobody);
    delivery.encode().map_err(unreadable)?;
    let rare = delivery.rare();
    rare.request.clone_from(&message.request);
    rare.row = Some(RowTag {
        seq: row.seq,
        message: message.message,
        attempts: row.attempts,
        suspect: hosting.is_suspect(hosting.shard_of(K::KIND, message.id.as_str()), row.seq),
        timer: row.timer,
        expires: row.expires,
    });
    if let Some(recall) = message.recall {
        delivery.identify(message.message, recall);
    }
    Ok(delivery)
}
