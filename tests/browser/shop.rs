//! The shop's page: buying, seeing others buy, and coming back after the server was killed.

use actor_tests::{
    Context, Deadline, Failure, Http, Program, Request, Result, Running,
    browser::{Driver, Page, Viewport},
};
use serde_json::json;
use tempfile::TempDir;

/// A card that pays, and one that does not.
const GOOD_CARD: &str = "visa";
const BAD_CARD: &str = "declined";

/// A running shop with a page open on it.
struct Visit {
    folder: TempDir,
    shop: Running,
    address: String,
    page: Page,
    // Last: a page is closed through it.
    _driver: Driver,
}

impl Visit {
    async fn begin(viewport: Viewport) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let shop = Program::shop(folder.path())?
            .start(Deadline::seconds(15))
            .await?;
        let address = format!("http://{}", shop.address(Deadline::seconds(15)).await?);
        let driver = Driver::start().await?;
        let page = driver.open(viewport).await?;
        page.goto(format!("{address}/")).await?;
        let visit = Self {
            folder,
            shop,
            address,
            page,
            _driver: driver,
        };
        visit.online().await?;
        Ok(visit)
    }

    async fn online(&self) -> Result<()> {
        let live = |text: &str| text.to_lowercase().contains("live");
        self.page
            .wait_for("connection", by(), live)
            .await
            .map(|_| ())
    }

    /// Returns something that is in stock, and how many there are.
    async fn in_stock(&self) -> Result<(String, i64)> {
        let shown = by().poll("products", async || {
            Some(self.page.ids("sku-").await.ok()?).filter(|skus| !skus.is_empty())
        });
        for sku in shown.await? {
            let level = self.level(&sku, |_| true).await?;
            if level > 1 {
                return Ok((sku, level));
            }
        }
        Err(Failure::new("nothing is in stock"))
    }

    /// Waits until the level shown fits, and returns it.
    async fn level(&self, sku: &str, fits: impl Fn(i64) -> bool) -> Result<i64> {
        let number = |text: &str| text.parse().ok().filter(|level| fits(*level));
        let id = format!("level-{sku}");
        let shown = self.page.wait_for(&id, by(), |text| number(text).is_some());
        number(&shown.await?).context("a level is a number")
    }

    async fn put_into_cart(&self, sku: &str) -> Result<()> {
        self.page.click(&format!("add-{sku}")).await?;
        self.page
            .wait_for("cart-count", by(), |text| text == "1")
            .await?;
        self.page
            .wait_for("cart-lines", by(), |text| !text.is_empty())
            .await
            .map(|_| ())
    }

    /// Pays, and waits until the order's status says `end`.
    async fn check_out(&self, card: &str, end: &str) -> Result<()> {
        self.page.fill("card", card).await?;
        self.page.click("checkout").await?;
        let ended = |text: &str| text.to_lowercase().contains(end);
        self.page
            .wait_for("order-status", by(), ended)
            .await
            .map(|_| ())
    }

    async fn no_errors(&self) -> Result<()> {
        assert_eq!(
            self.page.errors().await?,
            Vec::<String>::new(),
            "errors in the page's console"
        );
        Ok(())
    }
}

fn by() -> Deadline {
    Deadline::seconds(15)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopper_buys_and_another_tab_sees_stock_and_order_change_live() -> Result<()> {
    let visit = Visit::begin(Viewport::Desktop).await?;
    let page = &visit.page;
    let (sku, before) = visit.in_stock().await?;
    page.screenshot("desktop-1-shelf").await?;
    let buyer = page.tab().await?;
    let watcher = page.open_tab().await?;
    page.goto(format!("{}/", visit.address)).await?;
    visit.online().await?;
    visit.level(&sku, |level| level == before).await?;
    let orders_before = page.ids("order-").await?.len();

    page.turn_to(&buyer).await?;
    visit.put_into_cart(&sku).await?;
    page.screenshot("desktop-2-cart").await?;
    visit.check_out(GOOD_CARD, "completed").await?;
    page.screenshot("desktop-3-ordered").await?;
    page.turn_to(&watcher).await?;

    visit.level(&sku, |level| level == before - 1).await?;
    let order = by().poll("the order in the other tab", async || {
        let orders = page.ids("order-").await.ok()?;
        (orders.len() > orders_before).then_some(orders)
    });
    order.await?;
    page.screenshot("desktop-4-other-tab").await?;
    page.wait_for("orders", by(), |text| !text.is_empty())
        .await?;
    visit.no_errors().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_fails_the_order_and_gives_the_stock_back() -> Result<()> {
    let visit = Visit::begin(Viewport::Desktop).await?;
    let (sku, before) = visit.in_stock().await?;

    visit.put_into_cart(&sku).await?;
    visit.check_out(BAD_CARD, "failed").await?;
    visit.page.screenshot("desktop-5-declined").await?;

    visit.level(&sku, |level| level == before).await?;
    visit.no_errors().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_changed_by_another_program_shows_at_once() -> Result<()> {
    let visit = Visit::begin(Viewport::Desktop).await?;
    let (sku, before) = visit.in_stock().await?;

    let mut http = Http::to(visit.shop.address(by()).await?);
    let restock = Request::post(
        format!("/entities/stock/{sku}/restock"),
        &json!({"quantity": 5}),
    );
    let answer = http.send(&restock, by()).await?;

    assert_eq!(answer.status, 200, "{}", answer.text());
    visit.level(&sku, |level| level == before + 5).await?;
    visit.no_errors().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_the_whole_width_and_can_buy() -> Result<()> {
    let visit = Visit::begin(Viewport::Phone).await?;
    let (sku, before) = visit.in_stock().await?;
    visit.page.screenshot("phone-1-shelf").await?;

    visit.put_into_cart(&sku).await?;
    let overflow_with_cart = visit.page.overflow().await?;
    visit.check_out(GOOD_CARD, "completed").await?;
    visit.page.screenshot("phone-2-ordered").await?;

    assert_eq!(overflow_with_cart, 0, "the page is wider than the phone");
    assert_eq!(
        visit.page.overflow().await?,
        0,
        "the page is wider than the phone"
    );
    visit.level(&sku, |level| level == before - 1).await?;
    visit.no_errors().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_back_by_itself_after_the_server_was_killed() -> Result<()> {
    let mut visit = Visit::begin(Viewport::Desktop).await?;
    let (sku, before) = visit.in_stock().await?;
    visit.put_into_cart(&sku).await?;
    let address = visit.address.trim_start_matches("http://").to_owned();

    visit.shop.kill().await?;
    let offline = |text: &str| !text.to_lowercase().contains("live");
    visit.page.wait_for("connection", by(), offline).await?;
    visit.page.screenshot("desktop-6-server-gone").await?;
    let again = Program::shop(visit.folder.path())?.setting("ACTOR_HTTP_LISTEN", address);
    visit.shop = again.start(by()).await?;
    visit
        .page
        .wait_for("connection", Deadline::seconds(40), |text| !offline(text))
        .await?;

    visit.check_out(GOOD_CARD, "completed").await?;
    visit.level(&sku, |level| level == before - 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_opens_on_a_desktop_and_a_phone() -> Result<()> {
    for (viewport, name) in [(Viewport::Desktop, "desktop"), (Viewport::Phone, "phone")] {
        let visit = Visit::begin(viewport).await?;

        visit.page.goto(format!("{}/admin", visit.address)).await?;
        visit.page.screenshot(&format!("{name}-7-admin")).await?;
        let part = format!("{}/admin#supervision", visit.address);
        visit.page.goto(part).await?;
        // The shop's page asked for what is in stock.
        let drawn = |text: &str| {
            ["shop", "shard ", "epoch 1", "stock", "tea"]
                .iter()
                .all(|word| text.contains(word))
        };
        visit.page.wait_for("supervision", by(), drawn).await?;
        visit
            .page
            .screenshot(&format!("{name}-8-supervision"))
            .await?;

        assert_eq!(
            visit.page.overflow().await?,
            0,
            "the dashboard is wider than the {name}"
        );
        visit.no_errors().await?;
    }
    Ok(())
}
