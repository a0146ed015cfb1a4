//! What is called one at a time is called in runs, and what only writes to the store shares a commit: nothing else shows of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{self, AckMode, Redeliver, fixed};
use aftercommit::prelude::*;
use aftercommit::transaction::Limits;
use parking_lot::Mutex;

use super::{Failed, Placed, place_all};
use crate::heard::{Heard, within};

/// The orders of each shop, in the order in which they were applied.
const APPLIED: Table<String, Vec<u32>> = Table::new("runs.applied");

/// Enough for the longest run.
const MANY: u32 = 700;
const SHOPS: [&str; 3] = ["a", "b", "c"];

fn many() -> Vec<(&'static str, u32)> {
    (0..MANY).map(|order| (SHOPS[order as usize % SHOPS.len()], order)).collect()
}

fn of_shop(shop: usize) -> Vec<u32> {
    (0..MANY).filter(|order| *order as usize % SHOPS.len() == shop).collect()
}

/// How often each order was called.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<BTreeMap<u32, u32>>>);

impl Calls {
    /// Counts a call, and answers which it is.
    fn count(&self, order: u32) -> u32 {
        let mut calls = self.0.lock();
        let call = calls.entry(order).or_default();
        *call += 1;
        *call
    }
}

fn apply(event: &Placed, tx: &mut Tx) -> Result<(), Error> {
    let mut orders = APPLIED.get(tx, &event.shop)?.unwrap_or_default();
    orders.push(event.order);
    APPLIED.put(tx, &event.shop, &orders)
}

on_every_store! {
    async fn each_is_called_as_often_as_it_fails_and_once_more_and_applied_once_in_order(home: &dyn Home) {
        let calls = Calls::default();
        let counted = calls.clone();
        let again = Redeliver::new().attempts(9).backoff(fixed(Duration::from_millis(1)));
        let picky = listener::on::<Placed>("runs.apply").durable().redeliver(again).takes_tx();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(picky.call_with(move |event, call| -> Result<(), BoxError> {
                apply(event, call.tx()?)?;
                // Two of a hundred fail once each, and one of a thousand panics.
                match (event.order, counted.count(event.order)) {
                    (order, 1) if order % 50 == 49 => Err(Failed("after it has written").into()),
                    (500, 1) => panic!("after it has written"),
                    _ => Ok(()),
                }
            }))
            .start()
            .await
            .expect("the bus starts");
        bus.pause("runs.apply");
        for chunk in many().chunks(100) {
            place_all(&bus, chunk).await;
        }
        bus.resume("runs.apply");
        within(bus.idle()).await;
        let mut reader = bus.reader().expect("a reader");
        for (at, shop) in SHOPS.into_iter().enumerate() {
            assert_eq!(APPLIED.get(&mut reader, &shop.to_owned()).expect("a row"), Some(of_shop(at)), "shop {shop}");
        }
        let expected = (0..MANY).map(|order| (order, if order % 50 == 49 || order == 500 { 2 } else { 1 }));
        assert_eq!(*calls.0.lock(), expected.collect());
    }

    async fn a_pause_from_within_a_run_lets_nobody_else_be_called(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("runs.pause").durable().ack(AckMode::Batch).call_with(
                move |event, call| -> Result<(), BoxError> {
                    let bus: Bus = call.take()?;
                    to.note(event.order.to_string());
                    if event.order == 99 {
                        assert!(bus.pause("runs.pause"), "it runs");
                    }
                    Ok(())
                },
            ))
            .start()
            .await
            .expect("the bus starts");
        bus.pause("runs.pause");
        place_all(&bus, &many()[..200]).await;
        bus.resume("runs.pause");
        within(bus.idle()).await;
        assert_eq!(heard.take().len(), 100, "the pause holds for the next call");
        bus.resume("runs.pause");
        within(bus.idle()).await;
        assert_eq!(heard.take().len(), 100);
    }

    async fn what_a_delivery_enlists_runs_before_the_next_is_called(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("runs.hooks").durable().takes_tx().call_with(
                move |event, call| -> Result<(), BoxError> {
                    let (order, to) = (event.order, to.clone());
                    to.note(format!("{order} is called"));
                    if order % 5 == 4 {
                        call.tx()?.after_commit(0, move || {
                            to.note(format!("{order} is committed"));
                            Ok(())
                        });
                    }
                    Ok(())
                },
            ))
            .start()
            .await
            .expect("the bus starts");
        bus.pause("runs.hooks");
        place_all(&bus, &many()[..100]).await;
        bus.resume("runs.hooks");
        within(bus.idle()).await;
        let lines = heard.all();
        assert_eq!(lines.len(), 100 + 20);
        for order in (4..100).step_by(5) {
            let called = lines.iter().position(|line| *line == format!("{order} is called")).expect("it is called");
            assert_eq!(lines[called + 1], format!("{order} is committed"), "nobody is called in between");
        }
    }

    async fn a_limit_that_deliveries_of_one_commit_meet_together_is_charged_to_none(home: &dyn Home) {
        const LARGE: Table<u32, String> = Table::new("runs.large");
        let once = Redeliver::new().attempts(1);
        let writing = listener::on::<Placed>("runs.large").durable().redeliver(once).takes_tx();
        let bus = Bus::builder()
            .shared_store(home.open())
            // Two of them fit into one unit of work.
            .limits(Limits { unit_bytes: 100_000, ..Limits::default() })
            .listener(writing.call_with(|event, call| -> Result<(), BoxError> {
                Ok(LARGE.put(call.tx()?, &event.order, &"x".repeat(40_000))?)
            }))
            .start()
            .await
            .expect("the bus starts");
        bus.pause("runs.large");
        place_all(&bus, &many()[..40]).await;
        bus.resume("runs.large");
        within(bus.idle()).await;
        assert!(bus.parked().await.expect("readable").is_empty(), "none is out of attempts");
        let mut reader = bus.reader().expect("a reader");
        let orders: Vec<u32> = LARGE.iter(&mut reader).map(|row| row.expect("a row").0).collect();
        assert_eq!(orders, (0..40).collect::<Vec<_>>());
    }
}
