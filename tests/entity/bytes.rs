//! Arguments in bytes, from the outside and from the store: whatever they are, they are read or
//! refused, and cost their call only.

use std::sync::Arc;

use actor_core::{Invocation, clock::Rng, codec::Codec, entity::Handlers, store::TaskExecutor};
use actor_tests::{
    corpus::spoiled,
    hosting::{MEMORY, client, host_with},
};
use serde_json::json;

use super::kinds::{Account, Counter, Log};

const CODECS: [Codec; 2] = [Codec::Json, Codec::Msgpack];

fn method<K: Handlers>(name: &str) -> usize {
    let found = K::METHODS.iter().position(|method| method.name == name);
    found.expect("the kind has it")
}

#[test]
fn any_bytes_of_arguments_are_read_or_refused() {
    let rng = Rng::seeded(41);
    let objects = [
        ("send", json!({"to": "b", "amount": -4})),
        ("note", json!({"text": "é\u{0}\u{10FFFF}"})),
        ("balance", json!({})),
        ("on:moved", json!({"to": "b", "amount": 1})),
    ];
    for codec in CODECS {
        let (mut read, mut refused) = (0, 0);
        for (name, object) in &objects {
            let method = method::<Account>(name);
            let valid = codec.encode(object).expect("encodes");
            assert!(
                Account::decode_args(method, codec, &valid).is_ok(),
                "{name}"
            );
            for _ in 0..10_000 {
                match Account::decode_args(method, codec, &spoiled(&rng, &valid)) {
                    Ok(args) => {
                        read += 1;
                        assert_eq!(Account::method(&args), method);
                        let again = Account::encode_args(&args, codec).expect("encodes");
                        assert!(Account::decode_args(method, codec, &again).is_ok());
                    }
                    Err(error) => {
                        refused += 1;
                        assert!(!error.to_string().is_empty());
                    }
                }
            }
        }
        assert!(read > 100 && refused > 5_000, "{codec:?} {read} {refused}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_costs_its_call_only() {
    let hosting = host_with::<(Counter,)>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(Log::default());
    });
    let hosting = hosting.await;
    let (client, rng) = (client(&hosting), Rng::seeded(43));
    let (mut done, mut refused) = (0, 0);
    for codec in CODECS {
        let valid = codec.encode(&json!({"line": "one"})).expect("encodes");
        for number in 0..2_000 {
            let call = Invocation::new("counter", number % 5, "note");
            match client.invoke(call.args(codec, spoiled(&rng, &valid))).await {
                Ok(_) => done += 1,
                Err(refusal) => {
                    refused += 1;
                    assert_eq!(refusal.kind(), "decode", "{refusal}");
                }
            }
        }
    }

    assert!(done > 100 && refused > 1_000, "{done} {refused}");
    assert_eq!(client.entity::<Counter>(0).add(1).await, Ok(1));
}
