//! Metered calls, and what every listener is measured by without asking.

use std::sync::Arc;

use aftercommit::error::BoxError;
use aftercommit::listener;
use aftercommit::observe::{Measure, Meter, Notice, Observer};
use aftercommit::prelude::*;
use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::locks::poll_once;
use crate::scene::{No, Rang};

/// Writes down the measures of calls, durations left out.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl Written {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Observer for Written {
    fn notice(&self, _: &Notice<'_>) {}

    fn measure(&self, measure: &Measure<'_>) {
        let line = match measure {
            Measure::Entered { name } => format!("enter {name}"),
            Measure::Left { name, failed, .. } => format!("leave {name} {}", failed.unwrap_or("ok")),
            Measure::Calling { listener, .. } => format!("calling {listener}"),
            Measure::Called { listener, failed, .. } => format!("called {listener} {}", failed.unwrap_or("ok")),
            _ => return,
        };
        self.0.lock().push(line);
    }

    fn is_measuring(&self) -> bool {
        true
    }
}

struct Carrier {
    meter: Meter,
}

impl Carrier {
    #[metered(name = "book", meter = self.meter, kind = |error: &No| error.to_string())]
    async fn book(&self, slip: u32) -> Result<u32, No> {
        yield_now().await;
        if slip == 0 {
            return Err(No);
        }
        Ok(slip)
    }

    #[metered(name = "weigh", meter = self.meter)]
    fn weigh(&self, slip: u32) -> u32 {
        assert!(slip > 0, "nothing to weigh");
        slip * 2
    }

    #[metered(name = "ask", meter = self.meter)]
    async fn ask(&self, bus: &Bus) -> Result<(), Error> {
        bus.transaction(async |tx| {
            tx.set_rollback_only("no");
            Ok::<_, Error>(())
        })
        .await
        .map(drop)
    }
}

#[tokio::test]
async fn calls_are_counted_with_their_failures_by_kind_and_always_come_to_an_end() {
    let written = Written::default();
    let bus = Bus::builder().observer(written.clone()).start().await.expect("a bus");
    let carrier = Carrier { meter: bus.meter() };
    assert_eq!(carrier.book(7).await, Ok(7));
    assert_eq!(carrier.book(0).await, Err(No));
    assert_eq!(written.take(), ["enter book", "leave book ok", "enter book", "leave book no"]);
    assert_eq!(carrier.weigh(2), 4);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| carrier.weigh(0))).is_err());
    assert_eq!(written.take(), ["enter weigh", "leave weigh ok", "enter weigh", "leave weigh panic"]);
    carrier.ask(&bus).await.expect_err("rolled back");
    assert_eq!(written.take(), ["enter ask", "leave ask rollback only"]);
    let mut dropped = Box::pin(carrier.book(1));
    assert!(poll_once(&mut dropped).await.is_none());
    assert_eq!(written.take(), ["enter book"]);
    drop(dropped);
    assert_eq!(written.take(), ["leave book dropped"]);
}

#[tokio::test]
async fn a_meter_of_one_bus_tells_that_one_and_that_of_the_process_tells_all() {
    let (one, other) = (Written::default(), Written::default());
    let first = Bus::builder().observer(one.clone()).start().await.expect("a bus");
    let second = Bus::builder().observer(other.clone()).start().await.expect("a bus");
    first.meter().begin("own").end();
    assert_eq!((one.take(), other.take()), (vec!["enter own".to_owned(), "leave own ok".to_owned()], vec![]));
    Meter::process().begin("everybody's").end();
    for written in [&one, &other] {
        // Other tests of this process may be metered too.
        let lines = written.take();
        let told = |line: &str| lines.iter().filter(|one| *one == line).count();
        assert_eq!((told("enter everybody's"), told("leave everybody's ok")), (1, 1));
    }
    let meter = second.meter();
    drop(second);
    yield_now().await;
    meter.begin("gone").end();
    assert!(!other.take().iter().any(|line| line.contains("gone")));
}

#[tokio::test]
async fn what_nobody_measures_is_not_told() {
    let bus = Bus::builder().start().await.expect("a bus");
    bus.meter().begin("off").end();
}

#[tokio::test]
async fn every_listener_is_measured_without_asking() {
    let written = Written::default();
    let fails = |event: &Rang| if event.0 == 1 { Ok(()) } else { Err::<(), BoxError>(No.into()) };
    let conflicts = |event: &Rang| -> Result<(), Error> {
        if event.0 == 1 {
            Ok(())
        } else {
            Err(aftercommit::error::UnitError::Conflict { what: "all".to_owned() }.into())
        }
    };
    let bus = Bus::builder()
        .observer(written.clone())
        .listener(listener::on::<Rang>("fails").order(1).call(fails))
        .listener(listener::on::<Rang>("conflicts").order(2).call(conflicts))
        .listener(listener::on::<Rang>("panics").order(3).call(|event| assert_eq!(event.0, 1)))
        .start()
        .await
        .expect("a bus");
    bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
    let all_well = ["fails", "conflicts", "panics"].map(|id| [format!("calling {id}"), format!("called {id} ok")]);
    assert_eq!(written.take(), all_well.concat());
    bus.transaction(async |tx| tx.publish(Rang(2))).await.expect("committed");
    let failed = [("fails", "error"), ("conflicts", "conflict"), ("panics", "panic")];
    let failed = failed.map(|(id, kind)| [format!("calling {id}"), format!("called {id} {kind}")]);
    assert_eq!(written.take(), failed.concat());
}
