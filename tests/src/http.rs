//! A small HTTP/1.1 client: one connection kept alive, one request at a time, every answer by a
//! deadline.
//!
//! It never retries: whether a request may be sent again is what the tests are about.

use std::{fmt, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::{Context, Deadline, Result};

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens: the request was not sent.
    Refused(String),
    /// The connection ended after the request may have been sent.
    Broken(String),
    /// The deadline came first.
    Late,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(out, "connection refused: {why}"),
            Self::Broken(why) => write!(out, "connection broken: {why}"),
            Self::Late => write!(out, "no answer before the deadline"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    /// Returns a `GET` of `path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// Returns a `POST` of `body` as JSON.
    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::post_bytes(path, body.to_string())
    }

    /// Returns a `POST` of any bytes, which claim to be JSON.
    pub fn post_bytes(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let request = Self::new(Method::POST, path, body.into());
        request.header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the dedupe key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    fn new(method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body,
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        let what = || {
            format!(
                "status {} with a body that is not JSON: {}",
                self.status,
                self.text()
            )
        };
        serde_json::from_slice(&self.body).context(what())
    }

    /// Returns a header as text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A client of one address. It connects when it must and keeps the connection.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    link: Option<Link>,
}

impl Http {
    /// Returns a client that has not connected yet.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            link: None,
        }
    }

    /// Returns a client of the same address with a connection of its own, for after an exchange
    /// that may have cost the old one.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::to(self.address)
    }

    /// Sends `request` and returns the whole answer.
    ///
    /// # Errors
    /// When there is no answer; the connection is given up then.
    pub async fn send(&mut self, request: &Request, by: Deadline) -> Result<Answer, NoAnswer> {
        // Taken, so that every way out but success gives the connection up.
        let mut link = match self.link.take().filter(|link| !link.sender.is_closed()) {
            Some(link) => link,
            None => Link::open(self.address, by).await?,
        };
        let answer = by
            .limit("an answer", link.exchange(self.address, request))
            .await;
        let answer = answer.map_err(|_| NoAnswer::Late)??;
        self.link = Some(link);
        Ok(answer)
    }

    /// Asks for `path` and returns the text of the answer.
    ///
    /// # Errors
    /// When there is no answer within ten seconds, or its status is not 200.
    pub async fn text(&mut self, path: &str) -> Result<String> {
        let by = Deadline::after(Duration::from_secs(10));
        let answer = self
            .send(&Request::get(path), by)
            .await
            .context(format!("GET {path}"))?;
        (answer.status == 200)
            .then(|| answer.text())
            .context(format!(
                "GET {path}: status {}: {}",
                answer.status,
                answer.text()
            ))
    }
}

/// One connection and the task that drives it.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Link {
    async fn open(address: SocketAddr, by: Deadline) -> Result<Self, NoAnswer> {
        let refused = |error: std::io::Error| NoAnswer::Refused(error.to_string());
        let stream = by.limit("a connection", TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| NoAnswer::Late)?.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoAnswer::Refused(error.to_string()))?;
        // Its error reaches the waiting request too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    async fn exchange(&mut self, to: SocketAddr, request: &Request) -> Result<Answer, NoAnswer> {
        let broken = |error: hyper::Error| NoAnswer::Broken(format!("{error:?}"));
        let mut message = hyper::Request::builder()
            .method(&request.method)
            .uri(&request.path)
            .header(HOST, to.to_string());
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        let message = message
            .body(Full::new(request.body.clone()))
            .map_err(|error| NoAnswer::Refused(format!("not a request: {error}")))?;
        self.sender.ready().await.map_err(broken)?;
        let (head, body) = self
            .sender
            .send_request(message)
            .await
            .map_err(broken)?
            .into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    /// Accepts one connection and answers each read with the next of `answers`, then closes.
    async fn server(answers: Vec<&'static [u8]>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut bytes = vec![0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                requests.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                stream.write_all(answer).await.unwrap();
            }
            requests
        });
        (address, serving)
    }

    #[tokio::test]
    async fn two_requests_go_over_one_connection() {
        let (address, serving) = server(vec![OK, OK]).await;
        let mut http = Http::to(address);
        let restock = Request::post("/entities/stock/tea/restock", &Value::Null).key("k-1");

        http.send(&restock, Deadline::seconds(5)).await.unwrap();
        let answer = http
            .send(&Request::get("/metrics"), Deadline::seconds(5))
            .await
            .unwrap();

        let requests = serving.await.unwrap();
        assert_eq!(
            answer.json().unwrap(),
            Value::Object(serde_json::Map::new())
        );
        assert!(
            requests[0].starts_with("POST /entities/stock/tea/restock"),
            "{}",
            requests[0]
        );
        assert!(
            requests[0].contains("idempotency-key: k-1"),
            "{}",
            requests[0]
        );
        assert!(requests[1].starts_with("GET /metrics"), "{}", requests[1]);
    }

    #[tokio::test]
    async fn a_connection_that_ends_after_the_request_is_broken_not_refused() {
        let (address, _serving) = server(vec![b""]).await;

        let answer = Http::to(address)
            .send(&Request::get("/"), Deadline::seconds(5))
            .await;

        assert!(matches!(answer, Err(NoAnswer::Broken(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        let answer = Http::to(address)
            .send(&Request::get("/"), Deadline::seconds(5))
            .await;

        assert!(matches!(answer, Err(NoAnswer::Refused(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();

        let deadline = Deadline::after(Duration::from_millis(20));
        let answer = Http::to(address).send(&Request::get("/"), deadline).await;

        assert_eq!(answer.unwrap_err(), NoAnswer::Late);
    }
}
