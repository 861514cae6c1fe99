//! Crashes a node at a named point of its work.

use std::sync::Arc;

use actor_core::{router::Probe, store::BoxFuture};

use super::{
    machine::{Cut, PartClock},
    network::Part,
    shared::Shared,
};

/// The probe of one life of a node.
#[derive(Clone, Debug)]
pub(super) struct SimProbe {
    pub(super) shared: Arc<Shared>,
    pub(super) part: Part,
    pub(super) clock: PartClock,
    pub(super) cut: Arc<Cut>,
}

impl Probe for SimProbe {
    fn reached(&self, point: &str) -> BoxFuture<'static, ()> {
        let now = self.clock.now();
        self.shared
            .trace
            .add(now, format_args!("{} passes `{point}`", self.part));
        let dead = !self.shared.is_alive(self.part);
        if !dead && !self.shared.take_crash_point(point) {
            return Box::pin(async {});
        }
        if !dead {
            self.shared.want_crash(self.part, now, format!("`{point}`"));
            self.cut.now();
        }
        Box::pin(std::future::pending())
    }
}
