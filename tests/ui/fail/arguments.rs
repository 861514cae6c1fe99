//! An argument that borrows, has no name or has no nameable type is refused.

use std::borrow::Cow;

use actor_core::{Entity, handlers};

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    pub fn text(&self, _sku: &str) {}
    pub fn bytes(&self, _all: &[u8]) {}
    pub fn inside(&self, _sku: Option<&str>) {}
    pub fn lifetime(&self, _sku: Cow<'_, str>) {}
    pub fn unnamed(&self, _: u32) {}
    pub fn pattern(&self, (_a, _b): (u32, u32)) {}
    pub fn any(&self, _sku: impl Into<String>) {}
    pub fn conditional(&self, #[cfg(unix)] _sku: u32) {}
}

fn main() {}
