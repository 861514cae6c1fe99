//! The kinds the tests call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actor_core::{Ctx, Entity, Event, handlers};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

/// Lets a test hold handlers and see that they began.
#[derive(Clone, Debug)]
pub(crate) struct Gate(pub(crate) Arc<(Notify, Semaphore)>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new((Notify::new(), Semaphore::new(0))))
    }
}

impl Gate {
    pub(crate) async fn pass(&self) {
        self.0.0.notify_one();
        let permit = self.0.1.acquire().await;
        permit.expect("the gate is never closed").forget();
    }

    pub(crate) async fn entered(&self) {
        self.0.0.notified().await;
    }

    pub(crate) fn open(&self, times: usize) {
        self.0.1.add_permits(times);
    }
}

/// A log shared by handlers and test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A volatile counter with a small mailbox.
#[derive(Debug, Default, Entity)]
#[entity(mailbox = 3, passivate = "1s", expose)]
pub(crate) struct Counter {
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TooMuch {
    pub(crate) limit: u64,
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "more than {}", self.limit)
    }
}

impl std::error::Error for TooMuch {}

#[handlers]
impl Counter {
    pub fn add(&mut self, amount: u64) -> u64 {
        self.count += amount;
        self.count
    }

    pub fn add_at_most(&mut self, amount: u64, limit: u64) -> Result<u64, TooMuch> {
        if self.count + amount > limit {
            return Err(TooMuch { limit });
        }
        self.count += amount;
        Ok(self.count)
    }

    pub fn get(&self) -> u64 {
        self.count
    }

    pub fn fail(&mut self) {
        self.count = 1000;
        panic!("asked to");
    }

    pub async fn wait(&mut self, ctx: &mut Ctx<Self>) -> u64 {
        ctx.resource::<Gate>().clone().pass().await;
        self.count += 1;
        self.count
    }

    pub fn who(&self, ctx: &mut Ctx<Self>) -> String {
        let request = ctx.request().and_then(|request| request.tenant.clone());
        format!("{}/{} for {request:?}", ctx.kind(), ctx.id())
    }

    pub async fn ask(&self, other: String, ctx: &mut Ctx<Self>) -> Result<u64, String> {
        let call = ctx.entity::<Counter>(other).get().await;
        call.map_err(|error| format!("{}: {error}", error.kind()))
    }

    pub async fn ask_back(&self, other: String, ctx: &mut Ctx<Self>) -> Result<u64, String> {
        let me = ctx.id().to_string();
        let answer = ctx.entity::<Counter>(other).ask(me).await;
        answer.map_err(|error| error.to_string())
    }

    pub fn note(&mut self, line: String, ctx: &mut Ctx<Self>) {
        ctx.resource::<Log>().add(line);
    }
}

/// The limit of every wait in these tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A durable account.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, mailbox = 16, passivate = "1s")]
pub(crate) struct Account {
    balance: i64,
    notes: Vec<String>,
}

/// Announced when money came in.
#[derive(Clone, Debug, PartialEq, Eq, Event, Serialize, Deserialize)]
#[event(topic = "money", key = to)]
pub(crate) struct Moved {
    pub(crate) to: String,
    pub(crate) amount: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broke;

impl std::fmt::Display for Broke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no money")
    }
}

impl std::error::Error for Broke {}

/// A value that has no form in any codec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("cannot be written"))
    }
}

#[handlers]
impl Account {
    pub fn deposit(&mut self, amount: i64) -> i64 {
        self.balance += amount;
        self.balance
    }

    pub fn withdraw(&mut self, amount: i64) -> Result<i64, Broke> {
        self.balance -= amount;
        if self.balance < 0 {
            return Err(Broke);
        }
        Ok(self.balance)
    }

    pub fn balance(&self) -> i64 {
        self.balance
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub fn grow(&mut self, bytes: usize) {
        self.notes.push("x".repeat(bytes));
    }

    pub fn unwritable(&mut self) -> Unwritable {
        self.balance += 1000;
        Unwritable
    }

    pub fn fail(&mut self) {
        self.balance += 1000;
        panic!("asked to");
    }

    /// Moves money to another account: the message to it commits with the withdrawal.
    pub async fn send(
        &mut self,
        to: String,
        amount: i64,
        ctx: &mut Ctx<Self>,
    ) -> Result<(), Broke> {
        self.balance -= amount;
        let sent = ctx.entity::<Account>(&to).deposit(amount).cast().await;
        sent.expect("kept for the commit");
        if self.balance < 0 {
            return Err(Broke);
        }
        Ok(())
    }

    /// Announces money for another account, which receives the event.
    pub async fn announce(&mut self, to: String, amount: i64, ctx: &mut Ctx<Self>) {
        self.balance -= amount;
        ctx.publish(Moved { to, amount })
            .await
            .expect("kept for the commit");
    }

    /// Asks another account and writes down what it said.
    pub async fn mirror(&mut self, of: String, ctx: &mut Ctx<Self>) -> i64 {
        self.balance = ctx.entity::<Account>(of).deposit(1).await.expect("answers");
        self.balance
    }

    pub async fn wait(&mut self, ctx: &mut Ctx<Self>) {
        ctx.resource::<Gate>().clone().pass().await;
        self.balance += 1;
    }

    #[on]
    fn moved(&mut self, event: Moved) {
        self.balance += event.amount;
        self.notes.push(format!("moved {}", event.amount));
    }
}
