//! The kit of the system and browser tests: real programs, real sockets, a real browser.
//!
//! Not for the simulator, which lives in `actor-cluster` and has virtual time. Everything here is
//! bounded by a [`Deadline`], and a failing test shows what the programs printed.
//!
//! A test reads like this: start a program in a fresh folder, talk to it, signal it, wait for its
//! end.
//!
//! ```no_run
//! use actor_tests::{Deadline, Http, Program, Request, Result};
//!
//! # async fn example() -> Result<()> {
//! let folder = tempfile::tempdir()?;
//! let mut shop = Program::shop(folder.path())?.start(Deadline::seconds(10)).await?;
//! let mut http = Http::to(shop.address(Deadline::seconds(10)).await?);
//!
//! let answer = http.send(&Request::get("/health/ready"), Deadline::seconds(5)).await?;
//! shop.terminate()?;
//!
//! assert_eq!(answer.status, 200);
//! assert_eq!(shop.ended(Deadline::seconds(30)).await?.code(), Some(0));
//! # Ok(())
//! # }
//! ```

pub mod bed;
pub mod browser;
pub mod corpus;
pub mod deadline;
pub mod failure;
pub mod fault;
pub mod hosting;
pub mod http;
pub mod log;
pub mod metrics;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod seed;
pub mod socket;

pub use crate::{
    deadline::{Deadline, Stopwatch},
    failure::{Context, Failure, Result},
    http::{Answer, Http, NoAnswer, Request},
    log::Log,
    metrics::Metrics,
    program::{Ended, Program, Running},
    seed::Seed,
    socket::{Refusal, Socket},
};
