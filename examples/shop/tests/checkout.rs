//! Checkouts under virtual time: what they cost, what they leave behind, and what crashes change.

use actor_cluster::sim::{self, Sim};
use actor_core::{Result, id::Incarnation};
use actor_workflow::SagaClient as _;
use shop::{
    cart::Cart,
    checkout::{Checkout, Receipt},
    ids::{Card, Cents, Lines},
    order::{Order, OrderStatus},
    payment::{DECLINED, Payment},
    stock::Stock,
};

const VISA: &str = "visa";

/// Puts two honeys and a kettle into the cart `c-1`, and enough of both on the shelf.
async fn fill_the_cart(sim: &Sim) -> Result<()> {
    sim.entity::<Stock>("honey")
        .restock(5)
        .key("first delivery")
        .await?;
    sim.entity::<Stock>("kettle")
        .restock(1)
        .key("first delivery")
        .await?;
    let cart = sim.entity::<Cart>("c-1");
    cart.add("honey".into(), 2).key("a").await?;
    cart.add("kettle".into(), 1).key("b").await?;
    Ok(())
}

fn purchase(card: &str) -> Checkout {
    Checkout {
        cart: "c-1".into(),
        card: Card::from(card),
    }
}

async fn levels(sim: &Sim) -> Result<(u64, u64)> {
    Ok((
        sim.entity::<Stock>("honey").level().await?,
        sim.entity::<Stock>("kettle").level().await?,
    ))
}

/// Returns which life of the node this is.
async fn life(sim: &Sim) -> Result<Incarnation> {
    Ok(sim.run_on(0, async |node| node.incarnation()).await?)
}

/// Checks that the cart was bought, paid once, and taken out of the stock and the cart.
async fn assert_bought(sim: &Sim, receipt: &Receipt) -> Result<()> {
    assert_eq!(receipt.total_cents, Cents(2 * 760 + 5900));
    assert_eq!(sim.entity::<Payment>(&receipt.payment).balance().await?, 1);
    assert_eq!(
        sim.entity::<Order>("o-1").status().await?,
        Some(OrderStatus::Placed)
    );
    assert_eq!(levels(sim).await?, (3, 0));
    assert_eq!(sim.entity::<Cart>("c-1").lines().await?, Lines::new());
    for sku in ["honey", "kettle"] {
        let held = sim.entity::<Stock>(sku).ship("o-1".into()).await?;
        assert_eq!(held, 0, "{sku} is still held for the order");
    }
    Ok(())
}

#[sim::test(host(Stock, Cart, Order, Payment, Checkout))]
async fn a_purchase_is_paid_once_and_leaves_stock_and_cart(sim: Sim) -> Result<()> {
    fill_the_cart(&sim).await?;

    let run = sim
        .client()
        .saga::<Checkout>("o-1")
        .start(purchase(VISA))
        .await?;
    let receipt = run.result().await?;

    assert_bought(&sim, &receipt).await
}

#[sim::test(host(Stock, Cart, Order, Payment, Checkout))]
async fn a_declined_card_leaves_no_trace_of_trying(sim: Sim) -> Result<()> {
    fill_the_cart(&sim).await?;

    let run = sim
        .client()
        .saga::<Checkout>("o-1")
        .start(purchase(DECLINED))
        .await?;
    let failed = run.result().await;

    let ended = run.poll().await?;
    assert_eq!(
        ended.error.map(|error| error.kind).as_deref(),
        Some("card_declined"),
        "{failed:?}"
    );
    assert_eq!(levels(&sim).await?, (5, 1));
    assert_eq!(
        sim.entity::<Order>("o-1").status().await?,
        Some(OrderStatus::Cancelled)
    );
    assert_eq!(
        sim.entity::<Cart>("c-1").lines().await?.len(),
        2,
        "the cart is as it was"
    );
    Ok(())
}

#[sim::test(host(Stock, Cart, Order, Payment, Checkout), seeds = 8)]
async fn a_crash_after_any_step_changes_nothing(sim: Sim) -> Result<()> {
    fill_the_cart(&sim).await?;
    let steps = [
        "read cart",
        "open order",
        "reserve stock",
        "charge card",
        "place order",
    ];
    let step = steps[sim.rng().below(steps.len() as u64) as usize];
    sim.crash_after(step);

    let run = sim
        .client()
        .saga::<Checkout>("o-1")
        .start(purchase(VISA))
        .await?;
    let receipt = run.result().await?;

    assert_eq!(life(&sim).await?, Incarnation(2), "no crash after {step}");
    assert_bought(&sim, &receipt).await
}

#[sim::test(host(Stock, Cart, Order, Payment, Checkout), seeds = 8)]
async fn a_crash_while_a_declined_order_is_undone_changes_nothing(sim: Sim) -> Result<()> {
    fill_the_cart(&sim).await?;
    let points = ["charge card", "undo reserve stock", "undo open order"];
    sim.crash_after(points[sim.rng().below(points.len() as u64) as usize]);

    let run = sim
        .client()
        .saga::<Checkout>("o-1")
        .start(purchase(DECLINED))
        .await?;
    let failed = run.result().await;

    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(life(&sim).await?, Incarnation(2), "no crash");
    assert_eq!(levels(&sim).await?, (5, 1));
    assert_eq!(
        sim.entity::<Order>("o-1").status().await?,
        Some(OrderStatus::Cancelled)
    );
    Ok(())
}

#[sim::test(host(Stock, Cart, Order, Payment, Checkout), seeds = 8)]
async fn the_last_one_is_sold_once(sim: Sim) -> Result<()> {
    sim.entity::<Stock>("kettle").restock(1).await?;
    let client = sim.client();
    let mut runs = Vec::new();
    for shopper in ["ada", "bob"] {
        sim.entity::<Cart>(shopper).add("kettle".into(), 1).await?;
        let checkout = Checkout {
            cart: shopper.into(),
            card: VISA.into(),
        };
        runs.push(
            client
                .saga::<Checkout>(format!("o-{shopper}"))
                .start(checkout)
                .await?,
        );
    }

    let mut sold = 0;
    for run in runs {
        match run.result().await {
            Ok(_) => sold += 1,
            Err(_) => {
                let kind = run.poll().await?.error.map(|error| error.kind);
                assert_eq!(kind.as_deref(), Some("out_of_stock"));
            }
        }
    }

    assert_eq!(sold, 1);
    assert_eq!(sim.entity::<Stock>("kettle").level().await?, 0);
    Ok(())
}

#[sim::test(host(Stock))]
async fn a_shop_is_opened_once(sim: Sim) -> Result<()> {
    for _ in 0..2 {
        shop::opening::open(&sim.client()).await?;
        sim.crash(0);
        sim.restart(0).await;
    }

    assert_eq!(sim.entity::<Stock>("sencha").level().await?, 40);
    Ok(())
}
