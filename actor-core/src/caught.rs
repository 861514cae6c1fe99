//! Panics of user code: caught where it is called, and told as a text.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Why a handler did not end by itself.
pub(crate) enum Broken {
    /// It panicked, with this text.
    Panicked(String),
    /// It must not go on; or begin.
    Late {
        /// Whether it had begun.
        began: bool,
    },
}

/// Runs a handler, as long as it may take steps, and turns its panic into a text.
pub(crate) async fn caught<T>(
    handler: impl Future<Output = T>,
    may_step: impl Fn() -> bool,
) -> Result<T, Broken> {
    let mut handler = pin!(handler);
    let mut began = false;
    std::future::poll_fn(move |cx| {
        if !may_step() {
            return Poll::Ready(Err(Broken::Late { began }));
        }
        began = true;
        // The entity is thrown away after a panic, so nobody sees what it left half done.
        match caught_now(|| handler.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(Broken::Panicked(panic))),
        }
    })
    .await
}

/// As [`caught`], for what ends at once. What it changes must not be looked at after a panic.
pub(crate) fn caught_now<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| text(panic.as_ref()))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
