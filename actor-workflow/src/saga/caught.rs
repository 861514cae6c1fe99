//! Panics of user code, turned into texts.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Polls user code; a panic ends it with its text.
pub(crate) fn poll_caught<F: Future + ?Sized>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, String>> {
    // Whatever the panic left half done is dropped with the future and never seen again.
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(text(panic.as_ref()))),
    }
}

/// Runs user code; a panic ends it with its text.
pub(crate) async fn caught<T>(code: impl Future<Output = T>) -> Result<T, String> {
    let mut code = std::pin::pin!(code);
    std::future::poll_fn(move |cx| poll_caught(code.as_mut(), cx)).await
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
