//! What the shop sells and for how much. Fixed in the program: prices are not what this example
//! shows.

use serde::Serialize;

use crate::ids::{Cents, Lines, Sku};

/// One thing to buy.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Product {
    /// The id of its [`Stock`](crate::stock::Stock).
    pub sku: &'static str,
    /// What a shopper reads.
    pub name: &'static str,
    /// One sentence about it.
    pub note: &'static str,
    /// The price of one.
    pub price_cents: Cents,
    /// The colour of its picture, as an angle.
    pub hue: u16,
    /// How many the shop opens with.
    #[serde(skip)]
    pub first_delivery: u32,
}

/// Everything on the shelf, in the order shown.
pub const PRODUCTS: &[Product] = &[
    product(
        "sencha",
        "Sencha",
        "Grassy and bright, from the first harvest.",
        1250,
        110,
        40,
    ),
    product(
        "earl-grey",
        "Earl Grey",
        "Black tea with Calabrian bergamot.",
        890,
        28,
        25,
    ),
    product(
        "kettle",
        "Copper kettle",
        "Boils a litre and whistles in tune.",
        5900,
        18,
        3,
    ),
    product(
        "teapot",
        "Teapot",
        "Stoneware for four, holds the heat.",
        3400,
        205,
        8,
    ),
    product(
        "honey",
        "Forest honey",
        "Dark and resinous, 250 g.",
        760,
        42,
        12,
    ),
    product(
        "biscuits",
        "Butter biscuits",
        "Twelve of them, baked this morning.",
        540,
        330,
        30,
    ),
];

/// What one costs of anything that is not in the catalogue.
const PRICE_UNLISTED: Cents = Cents(100);

const fn product(
    sku: &'static str,
    name: &'static str,
    note: &'static str,
    cents: u64,
    hue: u16,
    first_delivery: u32,
) -> Product {
    Product {
        sku,
        name,
        note,
        price_cents: Cents(cents),
        hue,
        first_delivery,
    }
}

/// Returns the price of one.
pub fn price(sku: &Sku) -> Cents {
    let listed = PRODUCTS
        .iter()
        .find(|product| Sku::from(product.sku) == *sku);
    listed.map_or(PRICE_UNLISTED, |product| product.price_cents)
}

/// Returns what all lines cost together.
pub fn total(lines: &Lines) -> Cents {
    let cents = |(sku, quantity): (&Sku, &u32)| price(sku).0.saturating_mul(u64::from(*quantity));
    Cents(lines.iter().map(cents).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_counts_each_line_by_its_quantity() {
        let lines = Lines::from([
            ("sencha".into(), 2),
            ("honey".into(), 1),
            ("string".into(), 3),
        ]);

        assert_eq!(total(&lines), Cents(2 * 1250 + 760 + 3 * 100));
    }
}
