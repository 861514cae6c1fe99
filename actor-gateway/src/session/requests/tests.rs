//! Tests of the reader of client messages.

use actor_core::clock::Rng;
use serde_json::{Value, json};

use super::*;

const CODECS: [Codec; 2] = [Codec::Json, Codec::Msgpack];

fn read_value(codec: Codec, message: &Value) -> Result<Request, Malformed> {
    read(codec, &codec.encode(message).expect("encodes"))
}

#[test]
fn a_call_keeps_its_arguments_unread() {
    for codec in CODECS {
        let args = json!({"sku": "tea", "quantity": 2});
        let message = json!({
            "jsonrpc": "2.0", "id": 7, "method": "entity.call",
            "params": {"kind": "cart", "id": "c-1", "method": "add", "args": args, "key": "k"},
        });

        let request = read_value(codec, &message).expect("a request");

        assert_eq!(request.id, Some(Id::Number(7)));
        let Operation::Entity(call) = request.operation else {
            panic!("not a call: {:?}", request.operation);
        };
        assert_eq!((call.kind.as_str(), call.id.as_str()), ("cart", "c-1"));
        assert_eq!(call.args.codec.decode::<Value>(&call.args.bytes), Ok(args));
        assert_eq!(
            (call.key.as_deref(), call.timeout),
            (Some("k"), CALL_TIMEOUT)
        );
    }
}

#[test]
fn a_mistake_is_answered_under_its_id_with_its_code() {
    let method = "entity.call";
    let call =
        |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let table = [
        (json!([]), None, INVALID),
        (
            json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}),
            Some(1),
            INVALID,
        ),
        (json!({"jsonrpc": "2.0", "id": 1}), Some(1), INVALID),
        (
            json!({"jsonrpc": "2.0", "id": [1], "method": "ping"}),
            None,
            INVALID,
        ),
        (
            json!({"jsonrpc": "2.0", "id": 1, "method": "dance"}),
            Some(1),
            UNKNOWN_METHOD,
        ),
        (call(json!([1])), Some(1), INVALID_PARAMS),
        (
            call(json!({"kind": "cart", "id": "c"})),
            Some(1),
            INVALID_PARAMS,
        ),
        (
            call(json!({"kind": 1, "id": "c", "method": "m"})),
            Some(1),
            INVALID_PARAMS,
        ),
        (
            call(json!({"kind": "c", "id": "c", "method": "m", "extra": 1})),
            Some(1),
            INVALID_PARAMS,
        ),
        (
            call(json!({"kind": "c", "id": "c", "method": "m", "key": ""})),
            Some(1),
            INVALID_PARAMS,
        ),
    ];
    for (message, id, code) in table {
        for codec in CODECS {
            let malformed = read_value(codec, &message).expect_err("malformed");

            assert_eq!(
                (malformed.id, malformed.code),
                (id.map(Id::Number), code),
                "{message}"
            );
        }
    }
    assert_eq!(
        read(Codec::Json, b"{").map_err(|malformed| malformed.code),
        Err(BROKEN)
    );
    assert_eq!(
        read(Codec::Msgpack, &[0xc1]).map_err(|malformed| malformed.code),
        Err(BROKEN)
    );
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let corpus = [
        json!({"jsonrpc": "2.0", "id": "a", "method": "topic.subscribe",
            "params": {"topic": "orders", "since": {"epoch": 1, "offset": 2}}}),
        json!({"jsonrpc": "2.0", "method": "saga.signal",
            "params": {"kind": "k", "id": "i", "name": "n", "data": [1, "é", null]}}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "cancel", "params": {"id": "x"}}),
    ];
    let rng = Rng::seeded(17);
    for codec in CODECS {
        for message in &corpus {
            let valid = codec.encode(message).expect("encodes");
            for _ in 0..20_000 {
                let mut bytes = valid.clone();
                for _ in 0..=rng.below(4) {
                    let at = rng.below(bytes.len() as u64) as usize;
                    match rng.below(3) {
                        0 => bytes[at] = rng.bits() as u8,
                        1 => bytes[at] = b"{}[]\",:\\0"[rng.below(9) as usize],
                        _ => bytes.insert(at, rng.bits() as u8),
                    }
                }
                if let Err(malformed) = read(codec, &bytes) {
                    assert!(["decode", "not_hosted"].contains(&malformed.rejection.kind()));
                }
            }
        }
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","method":"topic.publish","params":{{"topic":"t","data":{}{}}}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000),
    );
    // It stays unread here; whoever reads it has a bound of its own.
    assert!(read(Codec::Json, deep.as_bytes()).is_ok());

    let mut packed = vec![0x91; 60_000];
    packed.push(0xc0);
    assert!(read(Codec::Msgpack, &packed).is_err());
}
