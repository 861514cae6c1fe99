//! The context may stand anywhere and have any path; it is no argument.

use actor_core::{Ctx, Entity, Handlers, handlers};

#[derive(Entity, Default)]
pub struct Cart;

#[handlers]
impl Cart {
    pub fn first(&self, ctx: &mut Ctx<Self>, sku: String) -> String {
        let _ = ctx;
        sku
    }
    pub fn middle(&self, sku: String, _: &mut actor_core::Ctx<Cart>, n: u32) -> String {
        sku.repeat(n as usize)
    }
    pub async fn last(&mut self, sku: String, _ctx: &mut Ctx<Self>) -> String {
        sku
    }
    pub fn alone(&self, _ctx: &mut Ctx<Self>) {}
}

fn main() {
    let args: Vec<_> = Cart::METHODS.iter().map(|method| method.args).collect();

    assert_eq!(args, [&["sku"][..], &["sku", "n"], &["sku"], &[]]);
}
