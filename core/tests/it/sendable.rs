//! The futures of the bus can be sent between threads, whatever their closures borrow.

use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::prelude::*;

/// What a runtime of several threads, a web handler and a listener ask of a future.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

async fn length(tx: &mut Tx, text: &str) -> Result<usize, Error> {
    tx.lock(text.len() as u64).await?;
    Ok(text.len())
}

#[tokio::test]
async fn units_of_work_that_borrow_can_be_sent() -> Result<(), BoxError> {
    let bus = Bus::builder().start().await?;
    let owned = String::from("event");
    let text = owned.as_str();
    let once = sendable(async { bus.transaction(async |tx| length(tx, text).await).await }).await?;
    let retrying = sendable(async { bus.transaction_retrying(3, async |tx| length(tx, text).await).await }).await?;
    let scoped = sendable(async {
        bus.transaction(async |tx| {
            let nested = tx.nested(async |tx| length(tx, text).await).await?;
            let undone = tx.savepoint(async |tx| length(tx, text).await).await?;
            Ok::<_, Error>(nested + undone)
        })
        .await
    })
    .await?;
    assert_eq!((once.value, retrying.value, scoped.value), (5, 5, 10));
    bus.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

async fn settles(event: &str, delivery: Delivery) -> Result<Settled, Error> {
    delivery.settle(async |tx| length(tx, event).await.map(drop)).await
}

/// Compiled, not called: only a bus makes a delivery.
#[test]
fn settling_can_be_sent_for_an_event_of_any_lifetime() {
    fn boxed<'a>(event: &'a str, delivery: Delivery) -> impl Future<Output = bool> + Send + 'a {
        sendable(async move { settles(event, delivery).await.is_ok() })
    }
    let _: for<'a> fn(&'a str, Delivery) -> _ = |event, delivery| drop(boxed(event, delivery));
}
