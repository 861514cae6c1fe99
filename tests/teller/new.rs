//! The second release: amounts may carry a note, accounts count those, and somebody gets a badge
//! for each.

use std::time::Duration;

use actor_core::{Ctx, Entity, Result, handlers, store::migrate::Migration};
use serde::{Deserialize, Serialize};

use crate::payout::{Payout, Purse};

/// What a node of this release hosts.
pub(crate) type Kinds = (Account, Badges, Payout, Purse);

/// What it changes in the schema; the first release goes on beside it.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_notes",
    sqlite: "CREATE TABLE teller_notes (account TEXT NOT NULL, note TEXT NOT NULL)",
    postgres: "CREATE TABLE teller_notes (account text NOT NULL, note text NOT NULL)",
    oldest: 0,
}];

/// An account.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose, kind = "account")]
pub(crate) struct Account {
    level: u64,
    reminded: u64,
    /// Amounts that came with a note.
    #[serde(default)]
    noted: u64,
}

/// What is put in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Amount {
    amount: u64,
    #[serde(default)]
    note: Option<String>,
}

/// What an account says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    level: u64,
    reminded: u64,
    noted: u64,
}

#[handlers]
impl Account {
    /// Puts something in.
    pub async fn enter(&mut self, amount: Amount, ctx: &mut Ctx<Self>) -> Result<Statement> {
        self.level += amount.amount;
        if amount.note.is_some() {
            self.noted += 1;
            ctx.entity::<Badges>(ctx.id()).award().cast().await?;
        }
        Ok(self.statement())
    }

    /// Reminds the account a little later.
    pub async fn remind(&mut self, ms: u64, ctx: &mut Ctx<Self>) -> Result<()> {
        let me = ctx.entity::<Self>(ctx.id());
        Ok(me.ring().after(Duration::from_millis(ms)).await?)
    }

    /// It was reminded.
    pub fn ring(&mut self) {
        self.reminded += 1;
    }

    /// Returns what is there.
    pub fn statement(&self) -> Statement {
        Statement {
            level: self.level,
            reminded: self.reminded,
            noted: self.noted,
        }
    }
}

/// The badges of an account: the kind that the first release does not know.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose, kind = "badges")]
pub(crate) struct Badges {
    count: u64,
}

#[handlers]
impl Badges {
    /// Adds one.
    pub fn award(&mut self) {
        self.count += 1;
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}
