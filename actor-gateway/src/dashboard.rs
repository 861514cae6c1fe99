//! `/admin`: a page for operators, and the JSON it shows.

mod access;
mod api;
mod assets;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};

use crate::gateway::Shared;

/// Returns the routes of the dashboard.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let to_api = middleware::from_fn_with_state(shared.clone(), access::api);
    let to_page = middleware::from_fn_with_state(shared.clone(), access::page);
    let api = Router::new()
        .route("/admin/api/nodes", get(api::nodes::list))
        .route(
            "/admin/api/nodes/{node}/drain",
            post(api::operations::drain),
        )
        .route(
            "/admin/api/nodes/{node}/undrain",
            post(api::operations::undrain),
        )
        .route("/admin/api/rebalance", post(api::operations::rebalance))
        .route("/admin/api/shards", get(api::nodes::shards))
        .route("/admin/api/tree", get(api::tree::tree))
        .route("/admin/api/entities", get(api::kinds::entities))
        .route("/admin/api/sagas", get(api::sagas::list))
        .route(
            "/admin/api/sagas/{kind}/{id}/journal",
            get(api::sagas::journal),
        )
        .route(
            "/admin/api/sagas/{kind}/{id}/{verb}",
            post(api::sagas::steer),
        )
        .route("/admin/api/jobs", get(api::sagas::jobs))
        .route("/admin/api/topics", get(api::topics::list))
        .route("/admin/api/dead-letters", get(api::dead_letters::list))
        .route(
            "/admin/api/dead-letters/{seq}/replay",
            post(api::dead_letters::replay),
        )
        .route(
            "/admin/api/dead-letters/{seq}/discard",
            post(api::dead_letters::discard),
        )
        .route_layer(to_api)
        .with_state(shared.clone());
    let page = Router::new()
        .route("/admin", get(assets::index))
        .route("/admin/", get(assets::index))
        .route("/admin/{file}", get(assets::file))
        .route_layer(to_page);
    api.merge(page)
}
