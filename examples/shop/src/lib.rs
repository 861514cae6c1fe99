//! The flagship example: a small tea shop that loses nothing and does nothing twice.
//!
//! Read in this order: what is sold ([`catalogue`]), what each kind is and does ([`stock`], [`cart`],
//! [`order`], [`payment`]), how a cart becomes an order ([`checkout`]), and what a browser is given
//! ([`page`]). The library part exists so that tests can host the kinds; the program is `main.rs`.

pub mod catalogue;
pub mod ids;

pub mod cart;
pub mod order;
pub mod payment;
pub mod stock;

pub mod checkout;
pub mod opening;
pub mod page;

/// Everything a node of the shop hosts.
pub type Kinds = (
    stock::Stock,
    cart::Cart,
    order::Order,
    payment::Payment,
    checkout::Checkout,
);
