//! The dashboard's JSON. Everything here is bounded: long lists come in pages.

pub(super) mod dead_letters;
pub(super) mod kinds;
pub(super) mod nodes;
pub(super) mod operations;
mod reports;
pub(super) mod sagas;
pub(super) mod topics;
pub(super) mod tree;

use actor_core::store::StoreError;
use serde::Deserialize;

use crate::rejection::Rejection;

/// The most items of one page.
const PAGE_MAX: usize = 500;

/// The items of a page unless the request says otherwise.
const PAGE: usize = 100;

/// Which page of a list is wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    /// The last item of the page before; empty at the beginning.
    #[serde(default)]
    after: String,
    limit: Option<usize>,
    /// Of entities and sagas: which kind.
    kind: Option<String>,
    /// Of sagas: which state.
    state: Option<String>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}

/// A query that was read, or a problem.
pub(super) struct Asked(Page);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Asked {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Rejection> {
        let query = axum::extract::Query::<Page>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(page)| Self(page))
            .map_err(|error| Rejection::new("decode", error.body_text()))
    }
}

/// Says that the store did not answer.
fn store(error: StoreError) -> Rejection {
    Rejection::new("unavailable", error)
}
