//! The words in which the tests speak to the shop.

use std::path::Path;

use actor_tests::{Answer, Context, Deadline, Failure, Http, Program, Request, Result, Running};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a start may take on a loaded machine.
pub(crate) const START_SECONDS: u64 = 15;
/// How long any one answer may take; the server gives up after five seconds.
pub(crate) const ANSWER_SECONDS: u64 = 10;

/// A shop in a fresh folder.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) program: Program,
    pub(crate) running: Running,
    pub(crate) http: Http,
    pub(crate) folder: TempDir,
}

impl Shop {
    /// Starts a shop and waits until it is ready.
    pub(crate) async fn open() -> Result<Self> {
        Self::open_with(|program| program).await
    }

    /// Starts a shop with other settings.
    pub(crate) async fn open_with(change: impl FnOnce(Program) -> Program) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the shop")?;
        let program = change(Program::shop(folder.path())?);
        let running = program.start(Deadline::seconds(START_SECONDS)).await?;
        let http = ready(&running).await?;
        Ok(Self {
            program,
            running,
            http,
            folder,
        })
    }

    /// Starts it again after it ended.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        self.running = self.program.start(Deadline::seconds(START_SECONDS)).await?;
        self.http = ready(&self.running).await?;
        Ok(())
    }

    /// Returns the database file.
    pub(crate) fn database(&self) -> std::path::PathBuf {
        database_in(self.folder.path())
    }
}

/// Returns where a shop keeps its database in `folder`.
pub(crate) fn database_in(folder: &Path) -> std::path::PathBuf {
    folder.join("shop.db")
}

/// Waits until a program that printed its address is ready, and returns a client of it.
pub(crate) async fn ready(running: &Running) -> Result<Http> {
    let by = Deadline::seconds(START_SECONDS);
    let mut http = Http::to(running.address(by).await?);
    let mut last = String::new();
    let looking = by.poll("/health/ready", async || {
        let answer = http.send(&Request::get("/health/ready"), by).await;
        last = format!("{answer:?}");
        answer.ok().filter(|answer| answer.status == 200)
    });
    let ready = looking.await;
    ready.map_err(|_| Failure::new(format!("the shop does not become ready: {last}")))?;
    Ok(http)
}

/// Returns a call of an entity.
pub(crate) fn call(kind: &str, id: &str, method: &str, arguments: &Value) -> Request {
    Request::post(format!("/entities/{kind}/{id}/{method}"), arguments)
}

/// Sends a request whose answer must come in time.
pub(crate) async fn send(http: &mut Http, request: &Request) -> Result<Answer> {
    let answer = http.send(request, Deadline::seconds(ANSWER_SECONDS)).await;
    answer.context(format!("{request:?}"))
}

/// Sends a request that must succeed, and returns what it says.
pub(crate) async fn succeed(http: &mut Http, request: &Request) -> Result<Value> {
    let answer = send(http, request).await?;
    if !matches!(answer.status, 200 | 202) {
        return Err(Failure::new(format!(
            "{request:?}: {} {}",
            answer.status,
            answer.text()
        )));
    }
    answer.json()
}

/// Returns the stock of `sku`.
pub(crate) async fn level(http: &mut Http, sku: &str) -> Result<i64> {
    let level = succeed(http, &call("stock", sku, "level", &json!({}))).await?;
    level
        .as_i64()
        .context(format!("the level of {sku} is a number, not {level}"))
}

/// Adds to the stock of `sku` and returns the level.
pub(crate) async fn restock(http: &mut Http, sku: &str, quantity: u32) -> Result<Value> {
    succeed(
        http,
        &call("stock", sku, "restock", &json!({ "quantity": quantity })),
    )
    .await
}
