//! What outsiders get wrong costs exactly that request: a documented error, and all else goes on.

use actor_tests::{Answer, Deadline, NoAnswer, Request, Result, Socket};
use serde_json::{Value, json};

use crate::shop::{START_SECONDS, Shop, call, level, restock, send};

/// A message on a WebSocket may have 64 KiB.
const FRAME_MAX: usize = 64 * 1024;
/// Larger than any body the gateway takes.
const BODY_TOO_LARGE: usize = 32 * 1024 * 1024;

/// Returns what is wrong with an answer that should be a problem of that status and kind.
fn not_a_problem(answer: &Answer, status: u16, kind: &str) -> Vec<String> {
    let problem = answer.json().unwrap_or_default();
    let content = answer.header("content-type");
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{what}; it is {} {}", answer.status, answer.text()));
        }
    };
    check(
        answer.status == status,
        format!("the status is not {status}"),
    );
    check(
        content.starts_with("application/problem+json"),
        format!("content type {content}"),
    );
    check(problem["kind"] == kind, format!("the kind is not {kind}"));
    check(
        problem["status"] == status,
        "the body has another status".to_owned(),
    );
    for field in ["type", "title", "detail"] {
        check(problem[field].is_string(), format!("there is no `{field}`"));
    }
    wrong
}

fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(not_a_problem(answer, status, kind), Vec::<String>::new());
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_a_problem_of_its_kind() -> Result<()> {
    let mut shop = Shop::open().await?;
    let raw = |body: &'static str| Request::post_bytes("/entities/stock/tea/restock", body);
    let with = |arguments: &Value| call("stock", "tea", "restock", arguments);
    let cases = [
        ("malformed JSON", raw("{\"quantity\": 1"), 400, "decode"),
        ("no body", raw(""), 400, "decode"),
        ("no object", raw("[1]"), 400, "decode"),
        (
            "bytes that are not UTF-8",
            Request::post_bytes("/entities/stock/tea/restock", vec![0xFF, 0xFE]),
            400,
            "decode",
        ),
        ("a missing argument", with(&json!({})), 400, "decode"),
        ("a wrong name", with(&json!({"quantty": 1})), 400, "decode"),
        (
            "a wrong type",
            with(&json!({"quantity": "one"})),
            400,
            "decode",
        ),
        (
            "a number out of range",
            with(&json!({"quantity": -1})),
            400,
            "decode",
        ),
        (
            "an unknown kind",
            call("stick", "tea", "restock", &json!({"quantity": 1})),
            404,
            "not_hosted",
        ),
        (
            "an unknown method",
            call("stock", "tea", "restuck", &json!({"quantity": 1})),
            404,
            "not_hosted",
        ),
        (
            "an unknown saga",
            Request::post("/sagas/chickout/1", &json!({})),
            404,
            "not_hosted",
        ),
        (
            "a saga's input",
            Request::post("/sagas/checkout/1", &json!({"cart": 7})),
            400,
            "decode",
        ),
    ];

    let mut wrong = Vec::new();
    for (case, request, status, kind) in &cases {
        let answer = send(&mut shop.http, request).await?;
        let problems = not_a_problem(&answer, *status, kind).into_iter();
        wrong.extend(problems.map(|problem| format!("{case}: {problem}")));
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        level(&mut shop.http, "tea").await?,
        0,
        "none of them did anything"
    );
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_without_being_read_to_its_end() -> Result<()> {
    let mut shop = Shop::open().await?;
    let body = vec![b' '; BODY_TOO_LARGE];

    let request = Request::post_bytes("/entities/stock/tea/restock", body);
    let answer = shop.http.send(&request, Deadline::seconds(30)).await;

    // The server may close before it has read everything: then there is no answer to see.
    match answer {
        Ok(answer) => assert_problem(&answer, 413, "too_large"),
        Err(no) => assert!(matches!(no, NoAnswer::Broken(_)), "{no}"),
    }
    assert_eq!(level(&mut shop.http.fresh(), "tea").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_key_used_for_something_else_is_a_conflict() -> Result<()> {
    let mut shop = Shop::open().await?;
    let one = call("stock", "tea", "restock", &json!({"quantity": 1})).key("k");
    let two = call("stock", "tea", "restock", &json!({"quantity": 2})).key("k");
    crate::shop::succeed(&mut shop.http, &one).await?;

    let answer = send(&mut shop.http, &two).await?;

    assert_problem(&answer, 409, "key_reused");
    assert_eq!(level(&mut shop.http, "tea").await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_the_shop_refuses_is_its_own_error() -> Result<()> {
    let mut shop = Shop::open().await?;
    restock(&mut shop.http, "tea", 1).await?;
    let reserve = call(
        "stock",
        "tea",
        "reserve",
        &json!({"order": "o", "quantity": 2}),
    );

    let answer = send(&mut shop.http, &reserve).await?;

    assert_problem(&answer, 422, "rejected");
    assert_eq!(
        level(&mut shop.http, "tea").await?,
        1,
        "an error leaves the state as it was"
    );
    Ok(())
}

async fn open_socket(shop: &Shop) -> Result<Socket> {
    let by = Deadline::seconds(START_SECONDS);
    Ok(Socket::open(shop.running.address(by).await?, by).await?)
}

fn restock_over_socket() -> Value {
    json!({"kind": "stock", "id": "tea", "method": "restock", "args": {"quantity": 1}})
}

/// Reads until the answer to the message with `id`, which may be null.
async fn answer_to(socket: &mut Socket, id: &Value) -> Result<Value> {
    let by = Deadline::seconds(START_SECONDS);
    loop {
        let object = socket.receive(by).await?;
        if object.get("method").is_none() && object["id"] == *id {
            return Ok(object);
        }
    }
}

#[tokio::test]
async fn a_malformed_message_costs_that_message_not_the_socket() -> Result<()> {
    let shop = Shop::open().await?;
    let mut socket = open_socket(&shop).await?;
    let by = Deadline::seconds(START_SECONDS);
    // JSON-RPC 2.0 reserves these codes.
    let cases = [
        ("{\"jsonrpc\": \"2.0\", \"id\": 1,", Value::Null, -32700),
        ("[]", Value::Null, -32600),
        ("{\"id\": 2}", json!(2), -32600),
        (
            "{\"jsonrpc\": \"2.0\", \"id\": 3, \"method\": \"entity.cull\"}",
            json!(3),
            -32601,
        ),
        (
            "{\"jsonrpc\": \"2.0\", \"id\": 4, \"method\": \"entity.call\"}",
            json!(4),
            -32602,
        ),
    ];

    for (message, id, code) in cases {
        socket.send(message, by).await?;
        let answer = answer_to(&mut socket, &id).await?;
        assert_eq!(answer["error"]["code"], code, "{message}: {answer}");
    }

    let answer = socket
        .call("entity.call", restock_over_socket(), by)
        .await?;
    assert_eq!(answer?, json!(1), "the socket goes on");
    Ok(())
}

#[tokio::test]
async fn a_refused_call_over_a_socket_has_the_same_kind_as_over_http() -> Result<()> {
    let shop = Shop::open().await?;
    let mut socket = open_socket(&shop).await?;
    let by = Deadline::seconds(START_SECONDS);
    let call = |kind: &str, method: &str, arguments: Value| {
        let mut params = restock_over_socket();
        params["kind"] = json!(kind);
        params["method"] = json!(method);
        params["args"] = arguments;
        params
    };
    let cases = [
        (
            call("stick", "restock", json!({"quantity": 1})),
            "not_hosted",
        ),
        (
            call("stock", "restuck", json!({"quantity": 1})),
            "not_hosted",
        ),
        (
            call("stock", "restock", json!({"quantity": "one"})),
            "decode",
        ),
        (call("stock", "restock", json!({"quantty": 1})), "decode"),
        (
            call("stock", "reserve", json!({"order": "o", "quantity": 1})),
            "rejected",
        ),
    ];

    for (params, kind) in cases {
        let said = params.to_string();
        let refusal = socket.call("entity.call", params, by).await?.unwrap_err();
        assert_eq!(refusal.kind, kind, "{said}: {refusal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_too_large_costs_at_most_its_own_socket() -> Result<()> {
    let shop = Shop::open().await?;
    let by = Deadline::seconds(START_SECONDS);
    let (mut loud, mut quiet) = (open_socket(&shop).await?, open_socket(&shop).await?);
    let id = "x".repeat(2 * FRAME_MAX);
    let params = json!({"kind": "stock", "id": id, "method": "level", "args": {}});

    match loud.call("entity.call", params, by).await {
        Ok(answer) => assert_eq!(answer.unwrap_err().kind, "too_large"),
        Err(NoAnswer::Late) => panic!("neither an answer nor the end of the socket"),
        // 1009: a message too big to process.
        Err(no) => assert!(
            no.to_string().contains("Size") || no.to_string().contains("1009"),
            "{no}"
        ),
    }

    let answer = quiet.call("entity.call", restock_over_socket(), by).await?;
    assert_eq!(answer?, json!(1), "another socket goes on");
    Ok(())
}
