//! Every setting of an entity reaches its options; what is not set keeps its default.

#![expect(
    clippy::assertions_on_constants,
    reason = "what the derive makes are constants"
)]

use std::time::Duration;

use actor_core::{
    Entity,
    entity::{EntityOptions, Takeover},
    handlers,
};
use serde::{Deserialize, Serialize};

#[derive(Entity, Default)]
struct ShoppingCart;

#[handlers]
impl ShoppingCart {}

#[derive(Entity, Default, Serialize, Deserialize)]
#[entity(durable, version = 2, passivate = "1500ms", mailbox = 100)]
#[entity(
    key_retention = "1h",
    takeover = "lease",
    expose,
    group = "media",
    kind = "basket"
)]
struct Cart;

#[handlers]
impl Cart {}

#[derive(Entity, Default)]
#[entity(takeover = "early")]
struct Shelf;

#[handlers]
impl Shelf {}

fn main() {
    assert_eq!(ShoppingCart::KIND, "shopping-cart");
    assert!(ShoppingCart::DURABLE.is_none());
    assert_eq!(
        ShoppingCart::OPTIONS.passivate,
        EntityOptions::DEFAULT.passivate
    );
    assert_eq!(
        ShoppingCart::OPTIONS.mailbox,
        EntityOptions::DEFAULT.mailbox
    );
    assert_eq!(
        ShoppingCart::OPTIONS.key_retention,
        EntityOptions::DEFAULT.key_retention
    );
    assert_eq!(ShoppingCart::OPTIONS.takeover, Takeover::Early);
    assert_eq!(Shelf::OPTIONS.takeover, Takeover::Early);
    assert!(!ShoppingCart::OPTIONS.exposed);
    assert_eq!(ShoppingCart::GROUP, "default");

    assert_eq!(Cart::KIND, "basket");
    assert_eq!(Cart::DURABLE.map(|durable| durable.version), Some(2));
    assert_eq!(Cart::OPTIONS.passivate, Duration::from_millis(1500));
    assert_eq!(Cart::OPTIONS.mailbox, 100);
    assert_eq!(Cart::OPTIONS.key_retention, Duration::from_secs(3600));
    assert_eq!(Cart::OPTIONS.takeover, Takeover::Lease);
    assert!(Cart::OPTIONS.exposed);
    assert_eq!(Cart::GROUP, "media");
}
