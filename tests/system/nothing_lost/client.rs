//! One client: it makes a change and repeats it under its key until it is answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actor_tests::{Deadline, Failure, Http, NoAnswer, Request, Result, Socket};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    PLENTIFUL, SCARCE,
    ledger::{Change, Checkout, Ledger},
};
use crate::shop::{ANSWER_SECONDS, call};

/// How long a change may be repeated before the client gives up, and with it the test.
const PATIENCE_SECONDS: u64 = 60;
/// How long a client waits for news of the server before it tries again.
const PAUSE: Duration = Duration::from_millis(50);

/// One life of the program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    pub(crate) number: u32,
    /// Where it listens, once it does.
    pub(crate) address: Option<SocketAddr>,
    /// Whether clients shall make no further changes.
    pub(crate) ends: bool,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http,
    WebSocket,
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Restock {
        sku: String,
        quantity: u32,
    },
    /// Holds more for an order, on top of what it holds.
    Reserve {
        sku: String,
        order: String,
        quantity: u32,
    },
    /// Gives back all that an order holds.
    Release {
        sku: String,
        order: String,
    },
    Add {
        cart: String,
        sku: String,
        quantity: u32,
    },
    Checkout {
        id: String,
        cart: String,
        card: String,
    },
}

/// What came of sending it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is done; final.
    Done(Value),
    /// The shop itself refused; final.
    Rejected(Value),
    /// The framework asks to try again; the kind.
    Later(String),
    Refused(String),
    Broken(String),
    Late,
    /// An answer that should never come.
    Wrong(String),
}

enum Link {
    Http(Http),
    WebSocket(Box<Socket>),
}

pub(crate) struct Client {
    number: u64,
    wire: Wire,
    rng: fastrand::Rng,
    ledger: Arc<Ledger>,
    lives: watch::Receiver<Life>,
    link: Option<(u32, Link)>,
    changes: u64,
    /// What this client's order holds of each thing.
    held: std::collections::BTreeMap<String, i64>,
}

impl Client {
    pub(crate) fn new(
        number: u64,
        wire: Wire,
        rng: fastrand::Rng,
        ledger: &Arc<Ledger>,
        lives: watch::Receiver<Life>,
    ) -> Self {
        let ledger = Arc::clone(ledger);
        let held = std::collections::BTreeMap::new();
        Self {
            number,
            wire,
            rng,
            ledger,
            lives,
            link: None,
            changes: 0,
            held,
        }
    }

    /// Makes changes until the run ends.
    pub(crate) async fn run(mut self) -> Result<()> {
        while !self.lives.borrow().ends {
            match self.rng.u32(..20) {
                0 => self.check_out().await?,
                1..=10 => self.restock().await?,
                11..=17 => self.reserve().await?,
                _ => self.release().await?,
            }
        }
        Ok(())
    }

    async fn restock(&mut self) -> Result<()> {
        let (sku, quantity) = (self.any_sku(), self.rng.u32(1..10));
        // The scarce thing stays scarce.
        let quantity = if sku == SCARCE { 1 } else { quantity };
        let order = Order::Restock {
            sku: sku.clone(),
            quantity,
        };
        let change = self.change(order).await?;
        let done = matches!(change.outcome, Attempt::Done(_));
        let effect = done.then_some((sku.as_str(), i64::from(quantity)));
        self.ledger.answer(change, effect);
        Ok(())
    }

    async fn reserve(&mut self) -> Result<()> {
        let (sku, quantity) = (self.any_sku(), self.rng.u32(1..10));
        let order = Order::Reserve {
            sku: sku.clone(),
            order: self.order(),
            quantity,
        };
        let change = self.change(order).await?;
        let taken = match change.outcome {
            Attempt::Done(_) => i64::from(quantity),
            _ => 0,
        };
        *self.held.entry(sku.clone()).or_default() += taken;
        self.ledger.answer(change, Some((&sku, -taken)));
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        let sku = self.any_sku();
        let order = Order::Release {
            sku: sku.clone(),
            order: self.order(),
        };
        let change = self.change(order).await?;
        let back = self.held.remove(&sku).unwrap_or_default();
        self.ledger.answer(change, Some((&sku, back)));
        Ok(())
    }

    /// Fills a fresh cart and checks out, with a card that is declined every third time.
    async fn check_out(&mut self) -> Result<()> {
        let id = format!("order-{}-{}", self.number, self.changes);
        let cart = format!("cart-{id}");
        let sku = self.any_of(&PLENTIFUL);
        let declined = self.rng.u32(..3) == 0;
        let mut quantity = 0;
        for _ in 0..2 {
            let more = self.rng.u32(1..4);
            let add = Order::Add {
                cart: cart.clone(),
                sku: sku.clone(),
                quantity: more,
            };
            let change = self.change(add).await?;
            self.ledger.answer(change, None);
            quantity += i64::from(more);
        }
        let card = if declined { "declined" } else { "visa" }.to_owned();
        let change = self
            .change(Order::Checkout {
                id: id.clone(),
                cart,
                card,
            })
            .await?;
        let accepted = matches!(change.outcome, Attempt::Done(_));
        // Its answer is the state the run has reached, which moves on: it is not repeated later.
        if !accepted {
            return Err(Failure::new(format!(
                "a checkout was not accepted: {change:?}"
            )));
        }
        self.ledger.checkout(Checkout {
            id,
            sku,
            quantity,
            declined,
        });
        Ok(())
    }

    /// Sends `order` under a new key until it has its final answer.
    async fn change(&mut self, order: Order) -> Result<Change> {
        self.changes += 1;
        let key = format!("{}-{}", self.number, self.changes);
        let patience = Deadline::seconds(PATIENCE_SECONDS);
        let mut last = None;
        while !patience.is_past() {
            match self.attempt(&key, &order).await {
                None => {}
                Some(Attempt::Wrong(why)) => {
                    return Err(Failure::new(format!("{order:?} under {key}: {why}")));
                }
                Some(outcome @ (Attempt::Done(_) | Attempt::Rejected(_))) => {
                    return Ok(Change {
                        key,
                        order,
                        outcome,
                    });
                }
                Some(other) => last = Some(other),
            }
            self.news().await;
        }
        Err(Failure::new(format!(
            "{order:?} under {key} was never answered; last {last:?}"
        )))
    }

    /// Sends it once; `None` if no server is known.
    async fn attempt(&mut self, key: &str, order: &Order) -> Option<Attempt> {
        let life = *self.lives.borrow_and_update();
        let address = life.address?;
        let by = Deadline::seconds(ANSWER_SECONDS);
        let kept = self
            .link
            .take()
            .filter(|(number, _)| *number == life.number);
        let (number, mut link) = match kept {
            Some(kept) => kept,
            None => match self.connect(address, by).await {
                Ok(link) => (life.number, link),
                Err(refused) => {
                    self.ledger.attempt(life.number, &refused);
                    return Some(refused);
                }
            },
        };
        let attempt = match &mut link {
            Link::Http(http) => over_http(http, key, order, by).await,
            Link::WebSocket(socket) => over_socket(socket, key, order, by).await,
        };
        self.ledger.attempt(number, &attempt);
        if !matches!(
            attempt,
            Attempt::Broken(_) | Attempt::Late | Attempt::Refused(_)
        ) {
            self.link = Some((number, link));
        }
        Some(attempt)
    }

    async fn connect(&self, address: SocketAddr, by: Deadline) -> Result<Link, Attempt> {
        match self.wire {
            Wire::Http => Ok(Link::Http(Http::to(address))),
            Wire::WebSocket => match Socket::open(address, by).await {
                Ok(socket) => Ok(Link::WebSocket(Box::new(socket))),
                // No change was sent: whatever happened, nothing is in flight.
                Err(NoAnswer::Late) => Err(Attempt::Late),
                Err(no) => Err(Attempt::Refused(no.to_string())),
            },
        }
    }

    /// Waits for another life, or a moment.
    async fn news(&mut self) {
        tokio::select! {
            biased;
            // Both may be dropped: a change that was missed is seen at the next look.
            _ = self.lives.changed() => {}
            () = Deadline::after(PAUSE).wait() => {}
        }
    }

    fn any_sku(&mut self) -> String {
        if self.rng.u32(..6) == 0 {
            SCARCE.to_owned()
        } else {
            self.any_of(&PLENTIFUL)
        }
    }

    fn any_of(&mut self, all: &[&str]) -> String {
        all[self.rng.usize(..all.len())].to_owned()
    }

    fn order(&self) -> String {
        format!("client-{}", self.number)
    }
}

/// Sends a change over HTTP.
pub(crate) async fn over_http(http: &mut Http, key: &str, order: &Order, by: Deadline) -> Attempt {
    let request = match order {
        Order::Checkout { id, cart, card } => Request::post(
            format!("/sagas/checkout/{id}"),
            &json!({"cart": cart, "card": card}),
        ),
        _ => {
            let (kind, id, method, arguments) = order.call();
            call(kind, id, method, &arguments).key(key)
        }
    };
    let answer = match http.send(&request, by).await {
        Ok(answer) => answer,
        Err(no) => return no.into(),
    };
    let said = answer.json();
    match (answer.status, said) {
        (200 | 202, Ok(value)) => Attempt::Done(value),
        (422, Ok(problem)) => Attempt::Rejected(problem["error"].clone()),
        (429 | 502 | 503 | 504, Ok(problem)) => Attempt::Later(problem["kind"].to_string()),
        (status, _) => Attempt::Wrong(format!("status {status}: {}", answer.text())),
    }
}

/// Sends a change over a WebSocket.
async fn over_socket(socket: &mut Socket, key: &str, order: &Order, by: Deadline) -> Attempt {
    let (method, params) = match order {
        Order::Checkout { id, cart, card } => {
            let input = json!({"cart": cart, "card": card});
            (
                "saga.start",
                json!({"kind": "checkout", "id": id, "input": input}),
            )
        }
        _ => {
            let (kind, id, method, arguments) = order.call();
            let call =
                json!({"kind": kind, "id": id, "method": method, "args": arguments, "key": key});
            ("entity.call", call)
        }
    };
    match socket.call(method, params, by).await {
        Ok(Ok(value)) => Attempt::Done(value),
        Ok(Err(refusal)) => match refusal.kind.as_str() {
            "rejected" => {
                let details: Value = serde_json::from_str(&refusal.details).unwrap_or_default();
                Attempt::Rejected(details["error"].clone())
            }
            "overloaded" | "unavailable" | "timeout" | "unknown_outcome" => {
                Attempt::Later(refusal.kind)
            }
            _ => Attempt::Wrong(format!("{refusal:?}")),
        },
        Err(no) => no.into(),
    }
}

impl Order {
    /// Returns kind, id, method and arguments of the call.
    fn call(&self) -> (&'static str, &str, &'static str, Value) {
        match self {
            Self::Restock { sku, quantity } => {
                ("stock", sku, "restock", json!({"quantity": quantity}))
            }
            Self::Reserve {
                sku,
                order,
                quantity,
            } => (
                "stock",
                sku,
                "reserve",
                json!({"order": order, "quantity": quantity}),
            ),
            Self::Release { sku, order } => ("stock", sku, "release", json!({"order": order})),
            Self::Add {
                cart,
                sku,
                quantity,
            } => (
                "cart",
                cart,
                "add",
                json!({"sku": sku, "quantity": quantity}),
            ),
            Self::Checkout { id, .. } => ("checkout", id, "start", Value::Null),
        }
    }
}

impl From<NoAnswer> for Attempt {
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Refused(why) => Self::Refused(why),
            NoAnswer::Broken(why) => Self::Broken(why),
            NoAnswer::Late => Self::Late,
        }
    }
}
