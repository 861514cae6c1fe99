//! Durable entities whose every answer is written down, so that it can be checked later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actor_core::{Client, Result, clock::Clock};
use tokio::task::JoinSet;

use super::durable::{Account, AccountRef};
use crate::load::{Load, Turn};

/// Entities, with what their callers were told.
#[derive(Debug)]
pub(super) struct Accounts {
    entries: Vec<Entry>,
    /// How long a call may take.
    patience: Duration,
    keys: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    id: String,
    account: AccountRef,
    /// Calls that were acknowledged.
    acknowledged: AtomicU64,
    /// Calls that ended with an error: they may have counted or not.
    failed: AtomicU64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Acknowledged calls that are not in the state.
    pub(super) lost: u64,
    /// Calls that are in it more than once.
    pub(super) doubled: u64,
}

impl Accounts {
    pub(super) fn new(
        client: &Client,
        ids: impl Iterator<Item = String>,
        patience: Duration,
    ) -> Self {
        let entry = |id: String| Entry {
            account: client.entity::<Account>(&id),
            id,
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        Self {
            entries: ids.map(entry).collect(),
            patience,
            keys: AtomicU64::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn id(&self, index: usize) -> &str {
        &self.entries[index].id
    }

    /// Adds one under a new key, and writes down what came of it.
    pub(super) async fn add(&self, index: usize) -> Result<(), String> {
        let entry = &self.entries[index];
        let key = self.keys.fetch_add(1, Ordering::Relaxed).to_string();
        let call = entry.account.add(1).key(key).timeout(self.patience);
        match call.await {
            Ok(_) => {
                entry.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                entry.failed.fetch_add(1, Ordering::Relaxed);
                Err(format!("{}: {error}", entry.id))
            }
        }
    }

    /// Compares every state with what its callers were told. Nobody may call meanwhile.
    pub(super) async fn check(&self) -> Result<Found> {
        let mut found = Found::default();
        for entry in &self.entries {
            let balance = entry.account.balance().timeout(self.patience).await?;
            let acknowledged = entry.acknowledged.load(Ordering::Relaxed);
            let failed = entry.failed.load(Ordering::Relaxed);
            found.lost += acknowledged.saturating_sub(balance);
            found.doubled += balance.saturating_sub(acknowledged + failed);
        }
        Ok(found)
    }
}

/// Callers in closed loops, until they are stopped.
#[derive(Debug)]
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Load>,
}

impl Callers {
    pub(super) fn start(accounts: &Arc<Accounts>, count: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for caller in 0..count {
            let (accounts, stop) = (accounts.clone(), stop.clone());
            tasks.spawn(async move {
                let (mut load, mut number) = (Load::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let turn = Turn { caller, number };
                    let started = Clock.now();
                    let outcome = accounts.add(turn.pick(accounts.len())).await;
                    load.count(outcome, Clock.now() - started);
                    number += 1;
                }
                load
            });
        }
        Self { stop, tasks }
    }

    /// Waits for the calls that are under way; returns what all came to.
    pub(super) async fn stop(mut self) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        let mut load = Load::new();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(one) => load.add(one),
                Err(error) => load.failed(error),
            }
        }
        load
    }

    /// Stops them; returns their longest latency as one operation and adds all to `calls`.
    pub(super) async fn stop_as_one(self, calls: &mut Load) -> Load {
        let load = self.stop().await;
        let mut one = Load::new();
        one.succeeded(load.longest());
        calls.add(load);
        one
    }
}
