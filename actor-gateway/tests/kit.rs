//! A node with small kinds, its routes, and ways to ask them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actor_cluster::Node;
use actor_core::{Ctx, Entity, Event, clock::Clock, handlers};
use actor_gateway::{Gateway, Limits, ServeConfig, Server, TopicAccess, drain::Drain};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What blocked handlers wait for.
#[derive(Clone, Default)]
pub(crate) struct Gate(pub(crate) Arc<Notify>);

#[derive(Entity, Default, Serialize, Deserialize)]
#[entity(durable, expose)]
pub(crate) struct Stock {
    level: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SoldOut {
    message: String,
    left: i64,
}

#[handlers]
impl Stock {
    /// Adds to the level and returns it.
    pub fn restock(&mut self, quantity: u32) -> i64 {
        self.level += i64::from(quantity);
        self.level
    }

    pub fn take(&mut self, quantity: u32) -> Result<i64, SoldOut> {
        let left = self.level - i64::from(quantity);
        if left < 0 {
            return Err(SoldOut {
                message: "sold out".to_owned(),
                left: self.level,
            });
        }
        self.level = left;
        Ok(left)
    }

    pub fn level(&self) -> i64 {
        self.level
    }

    pub fn explode(&mut self) {
        panic!("as the test wants");
    }

    pub fn bloat(&mut self) -> String {
        "x".repeat(2 * 1024 * 1024)
    }

    pub async fn ask_itself(&self, ctx: &mut Ctx<Self>) -> String {
        let answer = ctx.entity::<Stock>(ctx.id().clone()).level().await;
        answer.map_or_else(|error| error.kind().to_owned(), |level| level.to_string())
    }
}

#[derive(Entity, Default)]
#[entity(expose, mailbox = 2)]
pub(crate) struct Log {
    lines: Vec<u32>,
}

#[handlers]
impl Log {
    pub fn add(&mut self, line: u32) {
        self.lines.push(line);
    }

    pub fn lines(&self) -> Vec<u32> {
        self.lines.clone()
    }

    /// Answers when the test opens the gate.
    pub async fn wait(&mut self, ctx: &mut Ctx<Self>) {
        ctx.resource::<Gate>().0.notified().await;
    }
}

#[derive(Entity, Default)]
#[entity(expose)]
pub(crate) struct Diary {
    lines: Vec<u32>,
}

#[handlers]
impl Diary {
    pub fn add(&mut self, line: u32) {
        self.lines.push(line);
    }

    pub fn lines(&self) -> Vec<u32> {
        self.lines.clone()
    }
}

#[derive(Entity, Default)]
pub(crate) struct Hidden;

#[handlers]
impl Hidden {
    pub fn secret(&self) -> u32 {
        42
    }
}

#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(topic = "orders")]
pub(crate) struct Placed {
    pub(crate) order: u64,
    #[serde(default)]
    pub(crate) padding: String,
}

impl Placed {
    pub(crate) fn number(order: u64) -> Self {
        Self {
            order,
            padding: String::new(),
        }
    }
}

/// A node and what it needs to live.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) gate: Gate,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let gate = Gate::default();
        let node = Node::builder()
            .database_url("sqlite::memory:")
            .provide(gate.clone())
            .host::<(Stock, Log, Diary, Hidden)>()
            .singleton("doorman", |singleton| async move {
                singleton.stopping().await;
                Ok(())
            })
            .start()
            .await
            .expect("the node starts");
        Self { node, gate }
    }

    pub(crate) fn gateway(&self) -> Gateway {
        Gateway::of(&self.node)
            .topic("orders", TopicAccess::Listen)
            .topic("talk", TopicAccess::Publish)
    }

    pub(crate) fn router(&self) -> Router {
        self.gateway().router()
    }

    pub(crate) async fn publish(&self, orders: impl IntoIterator<Item = u64>) {
        for order in orders {
            let published = self.node.client().publish(Placed::number(order)).await;
            published.expect("the store takes events");
        }
    }

    /// Serves the routes on a real socket until the drain that is returned begins.
    pub(crate) async fn serve(&self, limits: Limits) -> Served {
        let mut config = ServeConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.drain_timeout = Duration::from_secs(10);
        self.serve_with(config, self.gateway().limits(limits).router())
            .await
    }

    pub(crate) async fn serve_with(&self, config: ServeConfig, app: Router) -> Served {
        let server = Server::bind(config, app).await.expect("a free port");
        let (address, drain) = (server.address(), server.drain());
        let stop = {
            let drain = drain.clone();
            async move { drain.begun().await }
        };
        let ended = tokio::spawn(async move {
            server.run(stop).await;
        });
        Served {
            address,
            drain,
            ended,
        }
    }
}

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) ended: tokio::task::JoinHandle<()>,
}

/// Ends a test that waits for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        value = future => value,
        () = Clock.sleep(PATIENCE) => panic!("waited too long for {what}"),
    }
}

/// Waits until `done` says so; the runtime's other tasks go on meanwhile.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, waiting).await;
}

/// A request that comes from this machine.
pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost:8080")
        .extension(ConnectInfo(peer))
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Response {
    let answered = soon("an answer", router.clone().oneshot(request)).await;
    answered.unwrap_or_else(|never| match never {})
}

pub(crate) async fn json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = body(response).await;
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

pub(crate) async fn body(response: Response) -> Vec<u8> {
    let read = axum::body::to_bytes(response.into_body(), 64 * 1024 * 1024).await;
    read.expect("a body").to_vec()
}

/// Posts JSON.
pub(crate) async fn post(router: &Router, path: &str, text: &str) -> (StatusCode, Value) {
    let request = request("POST", path).header("content-type", "application/json");
    json(
        send(
            router,
            request
                .body(Body::from(text.to_owned()))
                .expect("a request"),
        )
        .await,
    )
    .await
}

pub(crate) async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    json(
        send(
            router,
            request("GET", path).body(Body::empty()).expect("a request"),
        )
        .await,
    )
    .await
}

/// Checks that an answer is a problem of this kind.
pub(crate) fn assert_problem((status, problem): &(StatusCode, Value), expected: u16, kind: &str) {
    assert_eq!(status.as_u16(), expected, "{problem}");
    assert_eq!(problem["kind"], kind, "{problem}");
    assert_eq!(problem["status"], expected, "{problem}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].is_string(), "{field} of {problem}");
    }
}
