//! Remote calls by bare ractor_cluster between two processes: one rpc for each frame.
//!
//! `bench-rival WARM_UP SECONDS CALLERS ACTORS` starts the process that has the actors, calls them
//! in closed loops and prints one JSON object. Not part of the workspace: see `Cargo.toml`.

use std::{
    error::Error,
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage, client_connect};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// What both processes know; they listen on loopback.
const COOKIE: &str = "known to one run of bench";

/// The group that makes the actors known to the other process.
const GROUP: &str = "counters";

/// How long the actors of the other process may take to become known.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest latency told apart, in nanoseconds: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An actor that counts.
struct Counter;

/// What it understands.
#[derive(RactorClusterMessage)]
enum CounterMessage {
    /// Adds, and answers the sum.
    #[rpc]
    Add(u64, RpcReplyPort<u64>),
}

impl Actor for Counter {
    type Msg = CounterMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: CounterMessage,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let CounterMessage::Add(number, reply) = message;
        *count += number;
        // The caller may have gone.
        let _ = reply.send(*count);
        Ok(())
    }
}

/// What the caller asks for.
struct Plan {
    warm_up: Duration,
    measured: Duration,
    callers: usize,
    actors: usize,
}

/// What one caller, or all, measured.
struct Load {
    latencies: Histogram<u64>,
    errors: u64,
}

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", actors] => runtime.block_on(serve(actors.parse()?)),
        [warm_up, seconds, callers, actors] => runtime.block_on(call(Plan {
            warm_up: Duration::from_secs_f64(warm_up.parse()?),
            measured: Duration::from_secs_f64(seconds.parse()?),
            callers: callers.parse()?,
            actors: actors.parse()?,
        })),
        _ => Err("usage: bench-rival WARM_UP SECONDS CALLERS ACTORS".into()),
    }
}

/// Has the actors until the input ends; prints the port.
async fn serve(actors: usize) -> Outcome<()> {
    let (_, port) = node("served").await?;
    let mut members = Vec::new();
    for _ in 0..actors {
        let (actor, _) = Actor::spawn(None, Counter, ()).await?;
        members.push(actor.get_cell());
    }
    pg::join(GROUP.to_owned(), members);
    println!("{port}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Starts a node server; returns its port.
async fn node(name: &str) -> Outcome<(ActorRef<NodeServerMessage>, u16)> {
    // ractor_cluster does not tell which port it got: one that was free a moment ago is named.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let (name, host) = (name.to_owned(), "localhost".to_owned());
    let server = NodeServer::new(port, COOKIE.to_owned(), name, host, None, None)
        .with_listen_addr(Ipv4Addr::LOCALHOST.into());
    let (server, _) = Actor::spawn(None, server, ()).await?;
    Ok((server, port))
}

/// Calls the actors of another process and prints what that came to.
async fn call(plan: Plan) -> Outcome<()> {
    let mut other = Command::new(std::env::current_exe()?)
        .args(["serve", &plan.actors.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let port = port_of(&mut other).await?;
    let (server, _) = node("calling").await?;
    client_connect(&server, (Ipv4Addr::LOCALHOST, port)).await?;
    let actors = Arc::new(known(plan.actors).await?);
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.measured;
    let mut callers = JoinSet::new();
    for caller in 0..plan.callers {
        callers.spawn(take_turns(caller, actors.clone(), begin, end));
    }
    let (mut latencies, mut errors) = (Histogram::new_with_max(NANOS_MAX, 3)?, 0);
    while let Some(load) = callers.join_next().await {
        let load = load?;
        latencies.add(&load.latencies)?;
        errors += load.errors;
    }
    let seconds = (Instant::now() - begin).as_secs_f64();
    let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let counted = format!(r#""ops":{},"errors":{errors}"#, latencies.len());
    let timed = format!(r#""p50_us":{:.1},"p99_us":{:.1}"#, micros(0.5), micros(0.99));
    let rss_mib = resident_mib();
    println!(r#"{{{counted},{timed},"seconds":{seconds:.3},"rss_mib":{rss_mib:.1}}}"#);
    Ok(())
}

async fn port_of(other: &mut Child) -> Outcome<u16> {
    let said = other.stdout.take().ok_or("its output is piped")?;
    let line = BufReader::new(said).lines().next_line().await?;
    Ok(line.ok_or("the other process ended")?.parse()?)
}

/// Waits until all actors of the other process are known here.
async fn known(count: usize) -> Outcome<Vec<ActorRef<CounterMessage>>> {
    let by = Instant::now() + PATIENCE;
    loop {
        let members = pg::get_members(&GROUP.to_owned());
        if members.len() >= count {
            return Ok(members.into_iter().map(ActorRef::from).collect());
        }
        if Instant::now() > by {
            return Err(format!("{} of {count} actors are known", members.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn take_turns(
    caller: usize,
    actors: Arc<Vec<ActorRef<CounterMessage>>>,
    begin: Instant,
    end: Instant,
) -> Load {
    let latencies = Histogram::new_with_max(NANOS_MAX, 3).expect("the bounds are valid");
    let (mut load, mut number) = (
        Load {
            latencies,
            errors: 0,
        },
        0,
    );
    let mut started = Instant::now();
    while started < end {
        let actor = &actors[pick(caller, number, actors.len())];
        let answer = ractor::call!(actor, CounterMessage::Add, 1);
        let ended = Instant::now();
        if started >= begin {
            match answer {
                Ok(_) => {
                    let nanos = u64::try_from((ended - started).as_nanos()).unwrap_or(NANOS_MAX);
                    load.latencies.saturating_record(nanos);
                }
                Err(_) => load.errors += 1,
            }
        }
        (started, number) = (ended, number + 1);
    }
    load
}

/// Returns the same spread choice as the tool's callers make.
fn pick(caller: usize, number: u64, count: usize) -> usize {
    let mut bits = ((caller as u64) << 40 | number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) % count as u64) as usize
}

/// Returns the resident set; 0 where the system does not tell.
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0 / (1024.0 * 1024.0)
}
