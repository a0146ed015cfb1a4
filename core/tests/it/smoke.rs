//! One publish through the whole bus, declared by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::event::{Event, Stored, StoredEvent};
use aftercommit::listener::{self, Publish};
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Placed(u64);
impl Event for Placed {
    const STORED: Option<Stored<Self>> = Some(Stored::json("placed"));
    fn key(&self, out: &mut Vec<u8>) -> bool {
        out.extend(self.0.to_be_bytes());
        true
    }
}
impl StoredEvent for Placed {}
struct Followed;
impl Event for Followed {}

const COUNT: Counters<u64> = Counters::new("count");

#[tokio::test]
async fn one_publish_reaches_every_kind_of_listener_once() -> Result<(), BoxError> {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = |seen: &Arc<AtomicUsize>| {
        let seen = seen.clone();
        move || {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    };
    let (a, b, c) = (count(&seen), count(&seen), count(&seen));
    let bus = Bus::builder()
        .listener(listener::on::<Placed>("imm").phase(Phase::Immediate).call(move |_| a()))
        .listener(listener::on::<Placed>("after").call_async(move |_, _| {
            b();
            CallFuture::from_or_box(async { Ok(None) })
        }))
        .listener(listener::on::<Placed>("reply").call(move |_| Publish(Followed)))
        .listener(listener::on::<Followed>("followed").phase(Phase::Immediate).call(move |_| c()))
        .listener(
            listener::on::<Placed>("durable")
                .durable()
                .takes_tx()
                .call_with(|event, call| -> Result<(), BoxError> { Ok(COUNT.add(call.tx()?, &event.0, 1)?) }),
        )
        .start()
        .await?;
    let task = {
        let bus = bus.clone();
        tokio::spawn(async move {
            let local = String::from("x");
            bus.transaction(async |tx| {
                let _x = &local;
                tx.lock(7u64).await?;
                tx.publish(Placed(1))?;
                COUNT.add(tx, &1, 10)?;
                Ok::<_, Error>(5)
            })
            .await
        })
    };
    let done = task.await??;
    assert_eq!(done.value, 5);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    bus.idle().await;
    assert_eq!(COUNT.get(&mut bus.reader()?, &1)?, 11);
    println!("{}", bus.describe());
    bus.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
