//! The kit itself, against a page that needs no server.

use actor_tests::{
    Deadline, Result,
    browser::{Driver, Viewport},
};

const PAGE: &str = r#"data:text/html,<meta name="viewport" content="width=device-width">
<select data-testid="card"><option>ok<option>declined</select><input data-testid="sku-tea" value="old">
<button data-testid="add-tea" onclick="setTimeout(() => count.textContent = card() + ' ' + sku(), 50)">add</button>
<p id="count" data-testid="cart-count">0</p>
<script>
const of = (id) => document.querySelector(`[data-testid=${id}]`).value;
const card = () => of('card'), sku = () => of('sku-tea'), count = document.getElementById('count');
if (innerWidth < 400) document.body.insertAdjacentHTML('beforeend', '<div style="width:500px">.</div>');
</script>"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_read_filled_and_clicked_through_its_test_ids() -> Result<()> {
    let driver = Driver::start().await?;
    let page = driver.open(Viewport::Desktop).await?;
    page.goto(PAGE).await?;

    page.fill("card", "declined").await?;
    page.fill("sku-tea", "new").await?;
    page.click("add-tea").await?;

    page.wait_for("cart-count", Deadline::seconds(10), |text| {
        text == "declined new"
    })
    .await?;
    assert_eq!(page.ids("sku-").await?, ["tea"]);
    assert_eq!(page.overflow().await?, 0);
    assert_eq!(page.errors().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_narrow_and_what_sticks_out_is_noticed() -> Result<()> {
    let driver = Driver::start().await?;
    let page = driver.open(Viewport::Phone).await?;

    page.goto(PAGE).await?;

    assert!(page.overflow().await? > 50);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_page_and_a_text_that_never_comes_are_reported() -> Result<()> {
    let driver = Driver::start().await?;
    let page = driver.open(Viewport::Desktop).await?;
    page.goto("data:text/html,<p data-testid=orders>none</p><script>gone()</script>")
        .await?;

    let by = Deadline::seconds(3);
    let failure = page
        .wait_for("orders", by, |text| text == "one")
        .await
        .unwrap_err()
        .to_string();

    assert!(failure.contains("none"), "{failure}");
    assert!(
        page.errors()
            .await?
            .concat()
            .contains("gone is not defined")
    );
    Ok(())
}
