//! Keyed locks: as a value of their own, and as those of units of work.

mod flash_sale;
mod keyed;
mod listeners;
mod lockers;
mod shared;
mod units;

use std::task::Poll;

pub(crate) use shared::Shared;

/// Polls `future` once more; answers what it came to, if anything.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
