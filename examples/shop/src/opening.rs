//! The shop's first morning: every sku gets its first delivery.

use actor_core::{Client, Result};

use crate::{catalogue::PRODUCTS, stock::Stock};

/// Fills the shelves of a new shop. One that was opened before is left as it is, so this runs at
/// every start.
///
/// # Errors
/// When the store does not take it.
pub async fn open(client: &Client) -> Result<()> {
    for product in PRODUCTS {
        client
            .entity::<Stock>(product.sku)
            .open(product.first_delivery)
            .await?;
    }
    Ok(())
}
