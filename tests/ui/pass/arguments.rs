//! Arguments are owned values, sent as an object of their names.

use std::collections::BTreeMap;

use actor_core::{Entity, Handlers, codec::Codec, handlers};
use serde::{Deserialize, Serialize};

// Names that the generated code must not confuse with its own.
#[derive(Serialize, Deserialize)]
pub struct Outcome;
#[derive(Serialize, Deserialize)]
pub struct Args;

#[derive(Entity, Default, Serialize, Deserialize)]
pub struct Cart {
    lines: BTreeMap<String, u32>,
}

#[handlers]
impl Cart {
    pub fn add(&mut self, sku: String, quantity: u32) {
        self.lines.insert(sku, quantity);
    }
    pub fn merge(&mut self, others: Vec<Self>, args: Args, outcome: Outcome, ctx: u8, codec: u8) {
        let _ = (args, outcome, ctx, codec);
        self.lines
            .extend(others.into_iter().flat_map(|other| other.lines));
    }
    pub fn clear(&mut self) {
        self.lines.clear();
    }
}

fn decodes(method: usize, json: &str) -> bool {
    Cart::decode_args(method, Codec::Json, json.as_bytes()).is_ok()
}

fn main() {
    assert!(decodes(0, r#"{"sku":"tea","quantity":2}"#));
    assert!(!decodes(0, r#"{"sku":"tea"}"#));
    assert!(!decodes(0, r#"{"sku":"tea","quantity":2,"more":1}"#));
    assert!(!decodes(0, ""));
    assert!(decodes(2, "{}") && decodes(2, "null") && decodes(2, ""));
    assert!(!decodes(2, r#"{"more":1}"#) && !decodes(2, "1"));
    assert!(!decodes(3, "{}"));

    for codec in [Codec::Json, Codec::Msgpack] {
        let args = Cart::decode_args(0, Codec::Json, br#"{"sku":"tea","quantity":2}"#);
        let bytes = args
            .and_then(|args| Cart::encode_args(&args, codec))
            .expect("encodes");
        let args = Cart::decode_args(0, codec, &bytes).expect("decodes");

        assert_eq!(Cart::method(&args), 0);
    }
}
