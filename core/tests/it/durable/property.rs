//! Many keys, many failures, several forms of delivery: in every key the order of success is the order of publishing, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{self, IntoAnswer, Redeliver, fixed};
use aftercommit::prelude::*;
use aftercommit::testing::MovedClock;
use aftercommit::transaction::CallFuture;

use super::{Failed, Placed, place};
use crate::heard::within;

/// The orders a listener has settled, by shop: appended in the unit of work that settles.
const DONE: Table<(String, String), Vec<u32>> = Table::new("property.done");

fn append(tx: &mut Tx, listener: &str, event: &Placed) -> Result<(), Error> {
    let key = (listener.to_owned(), event.shop.clone());
    let mut orders = DONE.get(tx, &key)?.unwrap_or_default();
    orders.push(event.order);
    DONE.put(tx, &key, &orders)
}

/// Fails, panics or passes, drawn from a seed.
#[derive(Clone)]
struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    fn meet(&self) -> Result<(), BoxError> {
        let drawn = self.0.lock().expect("never poisoned").u8(0..10);
        match drawn {
            0..3 => Err(Failed("by chance").into()),
            3 => panic!("by chance"),
            _ => Ok(()),
        }
    }
}

on_embedded_stores! {
    async fn in_every_key_success_comes_in_order_and_once_whatever_fails(home: &dyn Home) {
        for seed in 1..=4 {
            let clock = MovedClock::default();
            let mut random = fastrand::Rng::with_seed(seed);
            let chance = Chance(Arc::new(Mutex::new(random.fork())));
            let redeliver = Redeliver::new().attempts(u32::MAX).backoff(fixed(Duration::from_millis(random.u64(1..20))));
            let (plain, unit, settle) = (format!("plain-{seed}"), format!("unit-{seed}"), format!("settle-{seed}"));
            let (in_unit, settling) = (chance.clone(), chance.clone());
            let (unit_id, settle_id) = (unit.clone(), settle.clone());
            let heard: Arc<Mutex<HashMap<String, Vec<u32>>>> = Arc::default();
            let to = heard.clone();
            let bus = Bus::builder()
                .shared_store(home.open())
                .clock(clock.clone())
                .listener(listener::on::<Placed>(&plain).durable().concurrency(random.usize(1..6)).redeliver(redeliver).call(move |event| -> Result<(), BoxError> {
                    chance.meet()?;
                    to.lock().expect("never poisoned").entry(event.shop.clone()).or_default().push(event.order);
                    Ok(())
                }))
                .listener(listener::on::<Placed>(&unit).durable().concurrency(random.usize(1..6)).redeliver(redeliver).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                    append(call.tx()?, &unit_id, event)?;
                    in_unit.meet()
                }))
                .listener(listener::on::<Placed>(&settle).durable().concurrency(random.usize(1..6)).redeliver(redeliver).takes_delivery().call_async(move |event, mut call| {
                    let (settling, id) = (settling.clone(), settle_id.clone());
                    CallFuture::from_or_box(async move {
                        settling.meet()?;
                        let delivery: Delivery = call.take()?;
                        let settled = delivery.settle(async |tx| {
                            append(tx, &id, event)?;
                            tokio::task::yield_now().await;
                            Ok::<_, Error>(())
                        });
                        settled.await?.into_answer()
                    })
                }))
                .start()
                .await
                .expect("the bus starts");
            let mut published: HashMap<String, Vec<u32>> = HashMap::new();
            for order in 0..150 {
                let shop = format!("shop-{seed}-{}", random.u32(0..12));
                place(&bus, &shop, order).await;
                published.entry(shop).or_default().push(order);
                if random.u8(0..8) == 0 {
                    clock.advance(Duration::from_millis(random.u64(1..30)));
                }
            }
            let moving = async {
                loop {
                    bus.quiet().await;
                    clock.advance(Duration::from_millis(20));
                    tokio::task::yield_now().await;
                }
            };
            within(async {
                tokio::select! {
                    biased;
                    () = bus.idle() => {}
                    () = moving => {}
                }
            })
            .await;
            assert_eq!(*heard.lock().expect("never poisoned"), published, "plain, seed {seed}");
            let mut reader = bus.reader().expect("a reader");
            for listener in [&unit, &settle] {
                let rows = DONE.prefix(&mut reader, listener).collect::<Result<Vec<_>, _>>().expect("rows");
                let done: HashMap<String, Vec<u32>> = rows.into_iter().map(|((_, shop), orders)| (shop, orders)).collect();
                assert_eq!(done, published, "{listener}");
            }
            assert!(bus.counts().redeliveries > 100 && bus.counts().parked == 0, "{:?}", bus.counts());
            for listener in [&plain, &unit, &settle] {
                assert!(bus.unregister(listener) && bus.forget_listener(listener).await.expect("forgotten"));
            }
            within(bus.shutdown(Duration::from_secs(30))).await.expect("everything ended");
        }
    }
}
