//! What things are called in the shop: goods, carts, orders, cards, and amounts of money.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$docs:meta])* $name:ident),*) => {$(
        $(#[$docs])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// What is sold, as the stock keeps it.
    Sku,
    /// A shopper's cart.
    CartId,
    /// An order; also the id of the saga that makes it.
    OrderId,
    /// A payment card, as the shopper chose it.
    Card
}

/// Quantities by what is sold.
pub type Lines = BTreeMap<Sku, u32>;

/// An amount of money in cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(pub u64);
