//! Units of one order never overlap and come in the order of the log; others run beside each other.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use shop::log::Source;
use shop::orders::OrderId;
use shop::orders::events::OrderPlaced;
use shop::replay::Replay;
use tokio::runtime::Runtime;
use tokio::task::yield_now;

use crate::replay::Log;
use crate::shop::text;

#[derive(Default)]
struct Seen {
    open: Vec<OrderId>,
    most_open: usize,
    overlaps: usize,
    items: Vec<(OrderId, u64)>,
}

#[test]
fn units_of_one_order_never_overlap_and_keep_the_order_of_the_log() {
    let lines: Vec<String> =
        (0..300).map(|unit| format!("1,7,purchase,{unit},1,2.5,{}", ["A", "B", "A", "C", "D"][unit % 5])).collect();
    let log = Log::of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let watched = seen.clone();
    // Waits inside the unit of work, so that units beside each other meet.
    let watch = listener::on::<OrderPlaced>("watch").phase(Phase::BeforeCommit).call_async(move |event, _| {
        let (watched, order, item) = (watched.clone(), event.order.clone(), event.lines[0].item);
        CallFuture::from_or_box(async move {
            {
                let mut seen = watched.lock().unwrap();
                seen.overlaps += usize::from(seen.open.contains(&order));
                seen.open.push(order.clone());
                seen.most_open = seen.most_open.max(seen.open.len());
            }
            for _ in 0..50 {
                yield_now().await;
            }
            let mut seen = watched.lock().unwrap();
            seen.open.retain(|open| *open != order);
            seen.items.push((order, item));
            Ok(None)
        })
    });
    Runtime::new().unwrap().block_on(async {
        let bus = Bus::builder().listener(watch).start().await.unwrap();
        let replay = Replay { in_flight: NonZeroUsize::new(3).unwrap(), skip_bad: false };
        let units = Source::File(text(&log.path).into()).units().unwrap();
        assert_eq!(replay.run(&bus, units, |_| {}).await.unwrap().orders, 300);
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.overlaps, 0);
    assert!((2..=3).contains(&seen.most_open), "{} beside each other", seen.most_open);
    for number in ["A", "B", "C", "D"] {
        let order = OrderId::numbered(number.to_owned());
        let items: Vec<u64> = seen.items.iter().filter(|(of, _)| *of == order).map(|(_, item)| *item).collect();
        assert!(items.is_sorted() && items.len() >= 60, "{number}: {items:?}");
    }
}
