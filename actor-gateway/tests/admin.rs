//! The dashboard and its JSON: who may see it, what it says, what it does.

use std::{net::SocketAddr, time::Duration};

use actor_core::{
    id::{NodeId, ShardId},
    store::{Sql, nodes},
};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode, request::Builder},
};
use serde_json::{Value, json};

use crate::kit::{self, Stage, Stock, assert_problem, get, post};

async fn status(router: &Router, request: Builder) -> u16 {
    let request = request.body(Body::empty()).expect("a request");
    kit::send(router, request).await.status().as_u16()
}

fn from(peer: &str, host: &str) -> Builder {
    let peer: SocketAddr = peer.parse().expect("an address");
    Request::builder()
        .uri("/admin/api/nodes")
        .header("host", host)
        .extension(ConnectInfo(peer))
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_let_in() {
    let stage = Stage::new().await;
    let router = stage.router();

    assert_eq!(
        status(&router, from("127.0.0.1:9", "localhost:8080")).await,
        200
    );
    assert_eq!(status(&router, from("[::1]:9", "[::1]:8080")).await, 200);
    assert_eq!(
        status(&router, from("[::ffff:127.0.0.1]:9", "127.0.0.1")).await,
        200
    );
    assert_eq!(status(&router, from("192.0.2.1:9", "localhost")).await, 403);
    assert_eq!(
        status(&router, from("127.0.0.1:9", "evil.example")).await,
        403
    );
    assert_eq!(
        status(&router, from("127.0.0.1:9", "localhost.evil.example")).await,
        403
    );
    for name in [
        "x-forwarded-for",
        "X-Forwarded-Host",
        "forwarded",
        "x-real-ip",
        "via",
    ] {
        let request = from("127.0.0.1:9", "localhost").header(name, "127.0.0.1");
        assert_eq!(status(&router, request).await, 403, "{name}");
    }
    let without_peer = Request::builder().uri("/admin").header("host", "localhost");
    assert_eq!(status(&router, without_peer).await, 403);
}

#[tokio::test]
async fn other_sites_pages_cannot_press_buttons() {
    let stage = Stage::new().await;
    let router = stage.router();
    let press = |name: &'static str, value: &'static str| {
        kit::request("POST", "/admin/api/dead-letters/1/discard").header(name, value)
    };

    assert_eq!(
        status(&router, press("origin", "http://evil.example")).await,
        403
    );
    assert_eq!(status(&router, press("origin", "null")).await, 403);
    assert_eq!(
        status(&router, press("sec-fetch-site", "cross-site")).await,
        403
    );
    assert_eq!(
        status(&router, press("origin", "http://localhost:8080")).await,
        404
    );
}

#[tokio::test]
async fn with_a_token_only_the_token_opens_the_json() {
    let stage = Stage::new().await;
    let router = stage
        .gateway()
        .admin_token(Some("open sesame".to_owned()))
        .router();
    let with = |authorization: &'static str| {
        from("192.0.2.1:9", "shop.example").header("authorization", authorization)
    };

    assert_eq!(status(&router, with("Bearer open sesame")).await, 200);
    assert_eq!(status(&router, with("Bearer open")).await, 401);
    assert_eq!(status(&router, with("Basic open sesame")).await, 401);
    assert_eq!(status(&router, from("127.0.0.1:9", "localhost")).await, 401);
    let page = Request::builder()
        .uri("/admin")
        .header("host", "shop.example");
    assert_eq!(status(&router, page).await, 200);
}

#[tokio::test]
async fn the_page_and_its_files_are_part_of_the_program() {
    let stage = Stage::new().await;
    let router = stage.router();
    for file in [
        "",
        "/",
        "/style.css",
        "/app.js",
        "/api.js",
        "/dom.js",
        "/panels.js",
        "/icon.svg",
    ] {
        let request = kit::request("GET", &format!("/admin{file}"));
        let response = kit::send(&router, request.body(Body::empty()).expect("a request")).await;

        assert_eq!(response.status(), StatusCode::OK, "{file}");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .expect("text");
        assert!(policy.contains("default-src 'none'"));
        assert!(!kit::body(response).await.is_empty(), "{file}");
    }
    assert_problem(&get(&router, "/admin/secrets.txt").await, 404, "not_hosted");
}

#[tokio::test]
async fn nodes_shards_kinds_and_topics_are_listed() {
    let stage = Stage::new().await;
    let router = stage.router();
    post(&router, "/entities/stock/tea/restock", r#"{"quantity":1}"#).await;
    stage.publish([1, 2]).await;

    let (_, nodes) = get(&router, "/admin/api/nodes").await;
    assert_eq!(nodes["nodes"][0]["node"], nodes["self"]);
    assert_eq!(nodes["nodes"][0]["alive"], true);
    assert_eq!(nodes["nodes"][0]["shards_owned"], nodes["shards"]);
    assert_eq!(nodes["stuck"], 0);
    let doorman = &nodes["singletons"][0];
    assert_eq!(doorman["name"], "doorman");
    assert_eq!(doorman["owner"], nodes["self"]);
    assert!(
        doorman["state"].is_string() && doorman["restarts"].is_u64(),
        "{doorman}"
    );

    let (_, shards) = get(&router, "/admin/api/shards").await;
    assert_eq!(shards["shards"].as_array().map(Vec::len), Some(512));
    assert_eq!(shards["shards"][511]["group"], "default");
    let groups = json!([{"group": "default", "first": 0, "count": 512}]);
    assert_eq!(shards["groups"], groups);
    assert_eq!(nodes["nodes"][0]["groups"], json!(["default"]));

    let (_, kinds) = get(&router, "/admin/api/entities").await;
    let stock = kinds["kinds"]
        .as_array()
        .expect("kinds")
        .iter()
        .find(|kind| kind["kind"] == "stock");
    let stock = stock.expect("stock is hosted");
    assert_eq!(
        (&stock["role"], &stock["resident"]),
        (&json!("durable_entity"), &json!(1))
    );
    assert_eq!(stock["calls"]["ok"], 1);

    let (_, entities) = get(&router, "/admin/api/entities?kind=stock").await;
    assert_eq!(entities["entities"][0]["id"], "tea");

    let (_, tree) = get(&router, "/admin/api/tree").await;
    let shard = &tree["shards"][0];
    assert_eq!(shard["entities"][0]["id"], "tea");
    assert_eq!(shard["entities"][0]["failures"], 0);
    assert_eq!(
        (&tree["owned"], &tree["resident"], &tree["shards_hidden"]),
        (&json!(512), &json!(1), &json!(0))
    );
    assert_eq!(
        shard["kinds"],
        json!([{"kind": "stock", "resident": 1, "mailbox_depth": 0}])
    );

    let (_, topics) = get(&router, "/admin/api/topics").await;
    assert_eq!(
        (
            &topics["topics"][0]["topic"],
            &topics["topics"][0]["offset"]
        ),
        (&json!("orders"), &json!(2))
    );

    for list in ["sagas", "jobs", "dead-letters"] {
        let (status, _) = get(&router, &format!("/admin/api/{list}")).await;
        assert_eq!(status, StatusCode::OK, "{list}");
    }
    assert_problem(
        &get(&router, "/admin/api/entities?limit=many").await,
        400,
        "decode",
    );
}

#[tokio::test]
async fn a_node_that_is_alone_shows_itself_and_what_it_did() {
    let stage = Stage::new().await;
    let router = stage.router();

    let (_, seen) = get(&router, "/admin/api/nodes").await;

    let [node] = seen["nodes"].as_array().expect("nodes").as_slice() else {
        panic!("one node: {seen}")
    };
    let facts = ["self", "state", "incarnation", "link", "lease_left_ms"].map(|name| &node[name]);
    let expected = [json!(true), json!("up"), json!(1), Value::Null, Value::Null];
    assert_eq!(facts.map(Value::clone), expected, "{node}");
    assert_eq!(
        (&seen["links"], &seen["lease_ttl_ms"]),
        (&json!([]), &json!(10_000))
    );
    let changes = seen["changes"].as_array().expect("changes");
    let changes: Vec<_> = changes.iter().map(|change| &change["what"]).collect();
    assert_eq!(changes, ["took", "joined"], "the newest first: {seen}");
    assert_eq!(seen["changes"][0]["shards"], 512);
}

#[tokio::test]
async fn a_shard_that_is_about_to_leave_is_shown_as_moving() {
    let stage = Stage::new().await;
    let router = stage.router();
    let client = stage.node.client();
    let (_, before) = get(&router, "/admin/api/shards").await;

    client.hosting().shards().freeze(ShardId(7));
    let (_, after) = get(&router, "/admin/api/shards").await;

    assert_eq!(
        (&before["moving"], &before["unowned"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (&after["moving"], &after["unowned"]),
        (&json!(1), &json!(0))
    );
    let moving = |shards: &Value, shard: usize| shards["shards"][shard]["moving"].clone();
    assert_eq!(
        (moving(&before, 7), moving(&after, 7)),
        (json!(false), json!(true))
    );
    assert_eq!(moving(&after, 8), json!(false));
}

/// Another node of the same database, as its row shows it.
async fn another_node(stage: &Stage) {
    let hosting = stage.node.client().hosting().clone();
    let registered = hosting.store().write("register", |connection| {
        Box::pin(async move {
            let ttl = Duration::from_secs(10);
            nodes::register(connection, &NodeId::new("other"), "127.0.0.1:1", ttl).await
        })
    });
    registered.await.expect("the store answers");
}

#[tokio::test]
async fn nodes_of_the_same_database_are_listed_with_their_leases() {
    let stage = Stage::new().await;
    another_node(&stage).await;

    let (_, seen) = get(&stage.router(), "/admin/api/nodes").await;

    let nodes = seen["nodes"].as_array().expect("nodes");
    let other = nodes
        .iter()
        .find(|node| node["node"] == "other")
        .expect("it is listed");
    assert_eq!(
        (&other["self"], &other["alive"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(other["address"], "127.0.0.1:1");
    let left = other["lease_left_ms"].as_u64().expect("a lease");
    assert!((1..=10_000).contains(&left), "{left}");
    assert_eq!(
        (&other["shards_owned"], &other["link"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(nodes.iter().filter(|node| node["self"] == true).count(), 1);
}

#[tokio::test]
async fn a_node_that_is_alone_drains_and_rebalances_nobody_else() {
    let stage = Stage::new().await;
    another_node(&stage).await;
    let router = stage.router();

    let elsewhere = post(&router, "/admin/api/nodes/other/drain", "").await;
    let nowhere = post(&router, "/admin/api/nodes/nowhere/undrain", "").await;
    let (status, rebalanced) = post(&router, "/admin/api/rebalance", "").await;

    assert_problem(&elsewhere, 404, "not_hosted");
    let detail = elsewhere.1["detail"].to_string();
    assert!(detail.contains("no node `other` is up"), "{detail}");
    assert_problem(&nowhere, 404, "not_hosted");
    let detail = nowhere.1["detail"].to_string();
    assert!(detail.contains("no node `nowhere`"), "{detail}");
    assert_eq!((status.as_u16(), &rebalanced["told"]), (202, &json!(0)));
    assert!(stage.node.is_ready());
}

#[tokio::test]
async fn a_dead_letter_that_is_gone_is_404() {
    let stage = Stage::new().await;
    for verb in ["replay", "discard"] {
        let path = format!("/admin/api/dead-letters/7/{verb}");
        assert_problem(&post(&stage.router(), &path, "").await, 404, "not_hosted");
    }
    let path = "/admin/api/dead-letters/x/replay";
    assert_problem(&post(&stage.router(), path, "").await, 400, "decode");
    let (_, letters): (_, Value) = get(&stage.router(), "/admin/api/dead-letters").await;
    assert_eq!(
        letters,
        json!({"count": 0, "dead_letters": [], "next": null})
    );
}

/// A stored message that nobody can read any more.
async fn spoil_a_message(stage: &Stage) {
    let stock = stage.node.client().entity::<Stock>("tea");
    let hour = Duration::from_secs(3600);
    stock.restock(1).after(hour).await.expect("stored");
    let hosting = stage.node.client().hosting().clone();
    let spoilt = hosting.store().write("spoil", |connection| {
        Box::pin(async move {
            let spoil = Sql::same("UPDATE mailbox SET due_at = NULL, args = x'c1'");
            connection.execute(&spoil, Vec::new()).await
        })
    });
    assert_eq!(spoilt.await.expect("the store answers"), 1);
    hosting.poll(0).await.expect("the store answers");
}

async fn letters(router: &Router) -> Vec<Value> {
    let (_, listed) = get(router, "/admin/api/dead-letters").await;
    listed["dead_letters"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Waits for the only dead letter; returns it.
async fn only_letter(router: &Router, but: i64) -> Value {
    let found = async {
        loop {
            match letters(router).await.as_slice() {
                [letter] if letter["seq"] != but => return letter.clone(),
                _ => tokio::task::yield_now().await,
            }
        }
    };
    kit::soon("a dead letter", found).await
}

#[tokio::test]
async fn a_dead_letter_is_listed_replayed_and_discarded() {
    let stage = Stage::new().await;
    let router = stage.router();
    spoil_a_message(&stage).await;

    let letter = only_letter(&router, 0).await;
    let seq = letter["seq"].as_i64().expect("a number");
    let replay = post(
        &router,
        &format!("/admin/api/dead-letters/{seq}/replay"),
        "",
    )
    .await;
    let again = only_letter(&router, seq).await;
    let seq = again["seq"].as_i64().expect("a number");
    let discard = post(
        &router,
        &format!("/admin/api/dead-letters/{seq}/discard"),
        "",
    )
    .await;

    assert_eq!(
        (&letter["kind"], &letter["id"]),
        (&json!("stock"), &json!("tea"))
    );
    assert_eq!(
        (&letter["method"], &letter["args"]),
        (&json!("restock"), &json!("1 unreadable bytes"))
    );
    assert_eq!((replay.0, discard.0), (StatusCode::OK, StatusCode::OK));
    assert_eq!(
        again["error"], letter["error"],
        "it is as unreadable as before"
    );
    assert!(letters(&router).await.is_empty());
}
