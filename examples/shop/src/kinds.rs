//! The kinds of the shop, in one name for nodes and tests.

use crate::{cart, checkout, order, payment, stock};

/// Everything a node of the shop hosts.
pub type Kinds = (
    stock::Stock,
    cart::Cart,
    order::Order,
    payment::Payment,
    checkout::Checkout,
);
