//! How the shop stops when it is asked to: nothing is lost, everybody is told, and it is in time.

use std::time::Duration;

use actor_tests::{Deadline, Http, NoAnswer, Request, Result, Socket, Stopwatch};
use serde_json::json;
use tokio::task::JoinSet;

use crate::shop::{ANSWER_SECONDS, START_SECONDS, Shop, call, level, succeed};

/// The drain time-out these tests set, and what a loaded machine may add.
const DRAIN: &str = "5s";
const DRAINED_IN: Duration = Duration::from_secs(7);
/// The close code of a service that restarts.
const RESTART: u16 = 1012;

async fn open() -> Result<Shop> {
    Shop::open_with(|program| program.setting("ACTOR_DRAIN_TIMEOUT", DRAIN)).await
}

#[tokio::test]
async fn a_terminated_node_closes_its_sockets_with_1012_and_ends_with_0_in_time() -> Result<()> {
    let mut shop = open().await?;
    let by = Deadline::seconds(START_SECONDS);
    let address = shop.running.address(by).await?;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(Socket::open(address, by).await?);
    }

    let stop = Stopwatch::start();
    shop.running.terminate()?;
    let status = shop.running.ended(Deadline::seconds(30)).await?;

    assert_eq!(status.code(), Some(0));
    assert!(stop.elapsed() < DRAINED_IN, "it took {:?}", stop.elapsed());
    for mut socket in sockets {
        assert_eq!(socket.closed(by).await?, Some(RESTART));
    }
    Ok(())
}

#[tokio::test]
async fn an_interrupted_node_ends_as_a_terminated_one() -> Result<()> {
    let mut shop = open().await?;

    shop.running.interrupt()?;

    assert_eq!(
        shop.running.ended(Deadline::seconds(30)).await?.code(),
        Some(0)
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_asked_twice_ends_once_and_cleanly() -> Result<()> {
    let mut shop = open().await?;

    shop.running.terminate()?;
    // It may be gone already.
    drop(shop.running.terminate());

    assert_eq!(
        shop.running.ended(Deadline::seconds(30)).await?.code(),
        Some(0)
    );
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() -> Result<()> {
    let mut shop = open().await?;
    let address = shop
        .running
        .address(Deadline::seconds(START_SECONDS))
        .await?;
    let silent = tokio::net::TcpStream::connect(address).await?;
    let mut idle = Http::to(address);
    idle.text("/health/live").await?;

    let stop = Stopwatch::start();
    shop.running.terminate()?;
    let status = shop.running.ended(Deadline::seconds(30)).await?;

    assert_eq!(status.code(), Some(0));
    assert!(stop.elapsed() < DRAINED_IN, "it took {:?}", stop.elapsed());
    drop((silent, idle));
    Ok(())
}

/// One of many clients: changes under keys until the node is gone. Returns how many were
/// acknowledged, and the change that got no answer, if one did not.
async fn change_until_gone(number: u32, mut http: Http) -> (i64, Option<Request>) {
    for turn in 0..100_000 {
        let key = format!("{number}-{turn}");
        let change = call("stock", "tea", "restock", &json!({"quantity": 1})).key(&key);
        match http.send(&change, Deadline::seconds(ANSWER_SECONDS)).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) if answer.status == 503 => return (turn, Some(change)),
            Ok(answer) => panic!("a draining node said {}: {}", answer.status, answer.text()),
            Err(NoAnswer::Late) => panic!("a draining node did not answer in time"),
            // It closed the connection before it read this one, or refused it.
            Err(_) => return (turn, Some(change)),
        }
    }
    (100_000, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_loses_no_acknowledged_change() -> Result<()> {
    let mut shop = open().await?;
    let address = shop
        .running
        .address(Deadline::seconds(START_SECONDS))
        .await?;
    let mut clients = JoinSet::new();
    for number in 0..32 {
        clients.spawn(change_until_gone(number, Http::to(address)));
    }
    let busy = Deadline::seconds(30).poll("some load", async || {
        level(&mut shop.http, "tea")
            .await
            .ok()
            .filter(|level| *level > 200)
    });
    busy.await?;

    shop.running.terminate()?;
    let status = shop.running.ended(Deadline::seconds(30)).await?;
    let ends = Deadline::seconds(30)
        .limit("the clients", clients.join_all())
        .await?;
    shop.reopen().await?;

    assert_eq!(status.code(), Some(0));
    let mut acknowledged = 0;
    for (count, unanswered) in ends {
        acknowledged += count;
        let Some(change) = unanswered else { continue };
        succeed(&mut shop.http, &change).await?;
        acknowledged += 1;
    }
    assert_eq!(level(&mut shop.http, "tea").await?, acknowledged);
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_paused_goes_on_where_it_was() -> Result<()> {
    let mut shop = open().await?;
    crate::shop::restock(&mut shop.http, "tea", 3).await?;

    shop.running.pause()?;
    let frozen = shop
        .http
        .send(&Request::get("/health/live"), Deadline::seconds(1))
        .await;
    shop.running.resume()?;

    assert_eq!(frozen.unwrap_err(), NoAnswer::Late);
    assert_eq!(level(&mut shop.http, "tea").await?, 3);
    Ok(())
}
