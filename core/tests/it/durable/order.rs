//! One key in commit order, different keys at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use tokio::sync::{Barrier, Semaphore};

use super::{Placed, place};
use crate::heard::{Heard, within};

fn by_shop(lines: &[String]) -> HashMap<&str, Vec<u32>> {
    let mut shops: HashMap<&str, Vec<u32>> = HashMap::new();
    for line in lines {
        let (shop, order) = line.split_once(' ').expect("a shop and an order");
        shops.entry(shop).or_default().push(order.parse().expect("a number"));
    }
    shops
}

on_every_store! {
    async fn calls_of_different_keys_overlap_and_those_of_one_key_follow_each_other(home: &dyn Home) {
        let heard = Heard::new();
        // Nobody passes unless three are called at once.
        let (meeting, to) = (Arc::new(Barrier::new(3)), heard.clone());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, peak) = (running.clone(), most.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("order.overlap").durable().concurrency(3).call_async(move |event, _| {
                let (meeting, to, inside, peak) = (meeting.clone(), to.clone(), inside.clone(), peak.clone());
                CallFuture::from_or_box(async move {
                    peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    meeting.wait().await;
                    to.note(event.line());
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        for order in 0..5 {
            for shop in ["north", "south", "east"] {
                place(&bus, shop, order).await;
            }
        }
        within(bus.idle()).await;
        let lines = heard.all();
        for (shop, orders) in by_shop(&lines) {
            assert_eq!(orders, [0, 1, 2, 3, 4], "{shop}");
        }
        assert_eq!((lines.len(), most.load(Ordering::SeqCst)), (15, 3));
    }

    async fn no_more_are_called_at_once_than_it_says(home: &dyn Home) {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, peak) = (running.clone(), most.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("order.cap").durable().concurrency(2).call_async(move |_, _| {
                let (inside, peak) = (inside.clone(), peak.clone());
                CallFuture::from_or_box(async move {
                    peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        for order in 0..40 {
            place(&bus, &format!("shop-{}", order % 8), order).await;
        }
        within(bus.idle()).await;
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} at once");
    }

    async fn a_slow_key_holds_no_other(home: &dyn Home) {
        let heard = Heard::new();
        let gate = Arc::new(Semaphore::new(0));
        let (to, closed) = (heard.clone(), gate.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("order.slow").durable().concurrency(2).call_async(move |event, _| {
                let (to, closed) = (to.clone(), closed.clone());
                CallFuture::from_or_box(async move {
                    if event.shop == "slow" {
                        closed.acquire().await?.forget();
                    }
                    to.note(event.line());
                    Ok(None)
                })
            }))
            .start()
            .await
            .expect("the bus starts");
        for order in 0..20 {
            place(&bus, "slow", order).await;
            place(&bus, "quick", order).await;
            place(&bus, "brisk", order).await;
        }
        heard.until(40).await;
        assert!(heard.all().iter().all(|line| !line.starts_with("slow")));
        gate.add_permits(20);
        within(bus.idle()).await;
        for (shop, orders) in by_shop(&heard.all()) {
            assert_eq!(orders, (0..20).collect::<Vec<_>>(), "{shop}");
        }
    }

    async fn events_of_one_unit_and_of_many_publishers_keep_the_order_of_their_commits(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("order.commits").durable().concurrency(4).call(move |event| to.note(event.line())))
            .start()
            .await
            .expect("the bus starts");
        let mut publishers = Vec::new();
        for publisher in 0..4u32 {
            let bus = bus.clone();
            publishers.push(tokio::spawn(async move {
                let mut placed = Vec::new();
                for round in 0..10u32 {
                    let first = publisher * 100 + round * 2;
                    let done = bus.transaction(async |tx| {
                        tx.publish(Placed::new("north", first))?;
                        tx.publish(Placed::new("north", first + 1))
                    });
                    let positions = done.await.expect("committed").positions;
                    placed.extend(positions.into_iter().zip([first, first + 1]));
                }
                placed
            }));
        }
        let mut placed = Vec::new();
        for publisher in publishers {
            placed.extend(within(publisher).await.expect("no panic"));
        }
        placed.sort();
        within(bus.idle()).await;
        let expected: Vec<u32> = placed.into_iter().map(|(_, order)| order).collect();
        assert_eq!(by_shop(&heard.all())["north"], expected);
    }
}
