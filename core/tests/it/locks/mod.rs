//! Keyed locks: as a value of their own, and as those of units of work.

mod keyed;
mod units;

use std::task::Poll;

/// Polls `future` once more; answers what it came to, if anything.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
