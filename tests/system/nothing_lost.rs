//! Nothing lost, nothing twice: 80 clients, 25 kills, and a count at the end.
//!
//! 64 HTTP and 16 WebSocket clients change stock and check out, each change under a key, and repeat
//! a change until it is answered. Meanwhile the program is killed with SIGKILL at random moments,
//! also while it starts, and started again. What the clients were told is what must be true.

mod client;
mod ledger;

use std::{sync::Arc, time::Duration};

use actor_tests::{
    Context, Deadline, Failure, Http, Metrics, Program, Request, Result, Running, Seed, Stopwatch,
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use self::{
    client::{Client, Life, Wire},
    ledger::Ledger,
};
use crate::shop::{START_SECONDS, level, ready, succeed};

const HTTP_CLIENTS: u64 = 64;
const WEBSOCKET_CLIENTS: u64 = 16;
const KILLS: u32 = 25;
/// Things with more stock than anyone asks for.
const PLENTIFUL: [&str; 4] = ["plenty-1", "plenty-2", "plenty-3", "plenty-4"];
/// A thing that runs out, so that changes are also refused.
const SCARCE: &str = "scarce";
const FIRST_DELIVERY: u32 = 1_000_000;
/// How long all clients together may need to finish what they have begun.
const FINISH_SECONDS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_counts_twice() -> Result<()> {
    let seed = Seed::from_env("--test system nothing_is_lost")?;
    let folder = tempfile::tempdir()?;
    let program = Program::shop(folder.path())?;
    let ledger = Arc::new(Ledger::default());
    let began = Stopwatch::start();

    let running = open(&program, &ledger).await?;
    let lives = watch::Sender::new(Life {
        number: 0,
        address: None,
        ends: false,
    });
    let clients = start_clients(seed, &ledger, &lives);
    let running = kill_and_restart(&program, running, seed, &ledger, &lives).await?;
    finish(clients, &lives).await?;
    println!("{} in {:.1?}", ledger.summary(), began.elapsed());

    let mut http = ready(&running).await?;
    check_the_run(&ledger)?;
    ledger.settle_checkouts(&mut http).await?;
    check_levels(&ledger, &mut http).await?;
    repeat_old_changes(&ledger, &mut http).await?;
    check_levels(&ledger, &mut http).await?;
    check_nothing_is_stuck(&mut http).await?;
    stop(running).await
}

/// Starts the first life and fills the shelves.
async fn open(program: &Program, ledger: &Ledger) -> Result<Running> {
    let running = program.start(Deadline::seconds(START_SECONDS)).await?;
    let mut http = ready(&running).await?;
    for sku in PLENTIFUL.into_iter().chain([SCARCE]) {
        let quantity = if sku == SCARCE { 10 } else { FIRST_DELIVERY };
        crate::shop::restock(&mut http, sku, quantity).await?;
        ledger.open(sku, level(&mut http, sku).await?);
    }
    Ok(running)
}

fn start_clients(
    seed: Seed,
    ledger: &Arc<Ledger>,
    lives: &watch::Sender<Life>,
) -> JoinSet<Result<()>> {
    let mut clients = JoinSet::new();
    for number in 0..HTTP_CLIENTS + WEBSOCKET_CLIENTS {
        let wire = if number < HTTP_CLIENTS {
            Wire::Http
        } else {
            Wire::WebSocket
        };
        let client = Client::new(
            number,
            wire,
            seed.rng(1 + number),
            ledger,
            lives.subscribe(),
        );
        clients.spawn(client.run());
    }
    clients
}

/// Kills each life but the last, and returns the last.
async fn kill_and_restart(
    program: &Program,
    mut running: Running,
    seed: Seed,
    ledger: &Ledger,
    lives: &watch::Sender<Life>,
) -> Result<Running> {
    let mut rng = seed.rng(0);
    for kill in 0..KILLS {
        // Every fifth life dies at a random moment of its start.
        if kill % 5 == 4 {
            Deadline::after(Duration::from_micros(rng.u64(..200_000)))
                .wait()
                .await;
        } else {
            let address = running.address(Deadline::seconds(START_SECONDS)).await?;
            lives.send_modify(|life| life.address = Some(address));
            // The moment: after so many answers, and then anywhere between two of them.
            let answers = ledger.answered() + rng.u64(20..400);
            ledger
                .wait_for_answers(answers, Deadline::seconds(30))
                .await?;
            Deadline::after(Duration::from_micros(rng.u64(..5_000)))
                .wait()
                .await;
        }
        running.kill().await?;
        lives.send_modify(|life| {
            *life = Life {
                number: life.number + 1,
                ..Life::default()
            }
        });
        running = program.spawn()?;
    }
    let address = running.address(Deadline::seconds(START_SECONDS)).await?;
    lives.send_modify(|life| life.address = Some(address));
    ledger
        .wait_for_answers(ledger.answered() + 200, Deadline::seconds(30))
        .await?;
    Ok(running)
}

/// Lets every client end what it has begun.
async fn finish(mut clients: JoinSet<Result<()>>, lives: &watch::Sender<Life>) -> Result<()> {
    lives.send_modify(|life| life.ends = true);
    let by = Deadline::seconds(FINISH_SECONDS);
    while let Some(end) = by
        .limit("the end of the clients", clients.join_next())
        .await?
    {
        end.context("a client broke")??;
    }
    Ok(())
}

fn check_the_run(ledger: &Ledger) -> Result<()> {
    assert!(
        ledger.kills_in_flight() > 0,
        "no kill hit work in flight: the test showed nothing"
    );
    assert_eq!(
        ledger.late(),
        0,
        "requests that had no answer at their deadline"
    );
    let refused = ledger.rejected();
    assert!(
        refused > 0,
        "nothing was ever refused: `{SCARCE}` has too much stock"
    );
    Ok(())
}

async fn check_levels(ledger: &Ledger, http: &mut Http) -> Result<()> {
    let mut wrong = Vec::new();
    for (sku, expected) in ledger.levels() {
        let found = level(http, &sku).await?;
        if found != expected {
            wrong.push(format!("{sku}: {found}, acknowledged {expected}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "levels differ from what was acknowledged: {wrong:#?}"
    );
    Ok(())
}

/// Sends changes again that were answered long ago: they change nothing and say the same.
async fn repeat_old_changes(ledger: &Ledger, http: &mut Http) -> Result<()> {
    for change in ledger.sample() {
        let by = Deadline::seconds(crate::shop::ANSWER_SECONDS);
        let again = client::over_http(http, &change.key, &change.order, by).await;
        assert_eq!(
            again, change.outcome,
            "the answer to a repeated {:?}",
            change.order
        );
    }
    Ok(())
}

async fn check_nothing_is_stuck(http: &mut Http) -> Result<()> {
    let metrics = Metrics::parse(&http.text("/metrics").await?)?;
    let stuck = metrics
        .sum("actor_stuck")
        .context("the metric actor_stuck")?;
    assert!(stuck == 0.0, "stuck: {:?}", metrics.not_zero("actor_stuck"));
    Ok(())
}

async fn stop(mut running: Running) -> Result<()> {
    running.terminate()?;
    let status = running.ended(Deadline::seconds(30)).await?;
    assert_eq!(status.code(), Some(0), "a terminated node ends with");
    Ok(())
}

/// The same, small enough to read: one change, one kill, one repetition.
#[tokio::test]
async fn a_change_repeated_after_a_kill_counts_once() -> Result<()> {
    let mut shop = crate::shop::Shop::open().await?;
    let change = crate::shop::call("stock", "tea", "restock", &json!({"quantity": 5})).key("once");
    let first = succeed(&mut shop.http, &change).await?;

    shop.running.kill().await?;
    shop.reopen().await?;
    let second = succeed(&mut shop.http, &change).await?;

    assert_eq!(second, first, "the stored answer");
    assert_eq!(level(&mut shop.http, "tea").await?, 5);
    Ok(())
}

/// A saga that was started before a kill is finished by the next life.
#[tokio::test]
async fn a_checkout_goes_on_after_a_kill() -> Result<()> {
    let mut shop = crate::shop::Shop::open().await?;
    crate::shop::restock(&mut shop.http, "tea", 5).await?;
    let add = crate::shop::call("cart", "anna", "add", &json!({"sku": "tea", "quantity": 2}));
    succeed(&mut shop.http, &add).await?;
    let checkout = Request::post(
        "/sagas/checkout/o-1",
        &json!({"cart": "anna", "card": "visa"}),
    );

    succeed(&mut shop.http, &checkout).await?;
    shop.running.kill().await?;
    shop.reopen().await?;
    let ended = succeed(&mut shop.http, &Request::get("/sagas/checkout/o-1?wait=5s")).await?;

    if ended["state"] != "completed" {
        return Err(Failure::new(format!("the checkout is {ended}")));
    }
    assert_eq!(level(&mut shop.http, "tea").await?, 3);
    Ok(())
}
