//! The first release.

use std::time::Duration;

use actor_core::{Ctx, Entity, Result, handlers};
use serde::{Deserialize, Serialize};

use crate::payout::{Payout, Purse};

/// What a node of this release hosts.
pub(crate) type Kinds = (Account, Payout, Purse);

/// An account.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable, expose, kind = "account")]
pub(crate) struct Account {
    level: u64,
    reminded: u64,
}

/// What is put in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Amount {
    amount: u64,
}

/// What an account says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    level: u64,
    reminded: u64,
}

#[handlers]
impl Account {
    /// Puts something in.
    pub fn enter(&mut self, amount: Amount) -> Statement {
        self.level += amount.amount;
        self.statement()
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
        }
    }
}
