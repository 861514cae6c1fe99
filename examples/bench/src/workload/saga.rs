//! Sagas: from start to result.

use actor_core::{Failure, Result};

use crate::{arguments::Plan, report::Line};

/// Runs `saga_noop`.
pub(super) async fn noop(_: &Plan) -> Result<Vec<Line>> {
    Err(Failure::fatal("missing", "not measured yet"))
}

/// Runs `saga_5_steps`.
pub(super) async fn five_steps(_: &Plan) -> Result<Vec<Line>> {
    Err(Failure::fatal("missing", "not measured yet"))
}
