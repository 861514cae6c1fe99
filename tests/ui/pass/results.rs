//! A type named `Result` is fallible, whatever alias it is; every other type is a value.

use std::{convert::Infallible, future::Future};

use actor_core::{Call, Entity, Failure, Handlers, codec::Codec, entity::Encoded, handlers};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct OutOfStock;

mod stock {
    pub type Result<T = u32> = std::result::Result<T, super::OutOfStock>;
}

#[derive(Entity, Default)]
pub struct Cart;

#[handlers]
impl Cart {
    pub fn add(&mut self) -> Result<usize, OutOfStock> {
        Err(OutOfStock)
    }
    pub fn pay(&mut self) -> actor_core::Result<()> {
        Err(Failure::new("declined", "no money"))
    }
    pub async fn reserve(&mut self) -> stock::Result {
        Ok(1)
    }
    pub fn total(&self) -> Option<u64> {
        None
    }
    pub fn clear(&mut self) {}
}

fn typed(cart: &CartRef) {
    let _: Call<'_, Cart, usize, OutOfStock> = cart.add();
    let _: Call<'_, Cart, (), Failure> = cart.pay();
    let _: Call<'_, Cart, u32, OutOfStock> = cart.reserve();
    let _: Call<'_, Cart, Option<u64>, Infallible> = cart.total();
    let _: Call<'_, Cart, (), Infallible> = cart.clear();
}

fn decodes(method: usize, ok: bool, json: &str) -> bool {
    let encoded = Encoded {
        ok,
        bytes: json.into(),
    };
    Cart::decode_outcome(method, Codec::Json, &encoded).is_ok_and(|outcome| {
        Cart::is_ok(&outcome) == ok
            && Cart::encode_outcome(&outcome, Codec::Json).as_ref() == Ok(&encoded)
    })
}

fn main() {
    assert!(decodes(0, true, "7") && decodes(0, false, "null"));
    assert!(!decodes(0, true, r#""seven""#));
    assert!(decodes(3, true, "null") && decodes(3, true, "8"));
    assert!(!decodes(3, false, "null"), "a value has no error");
    assert!(decodes(4, true, "null"));
    let _ = typed;
    let _ = |cart: &mut Cart, args, ctx: &mut actor_core::Ctx<Cart>| {
        fn assert_send(_: impl Future + Send) {}
        assert_send(cart.handle(args, ctx));
    };
}
