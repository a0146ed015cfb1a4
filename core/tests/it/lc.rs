//! The life of a unit of work: phases in order, failures, what comes too late.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::error::{BoxError, PublishError};
use aftercommit::event::Stored;
use aftercommit::listener::{self, Registration};
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use serde::{Deserialize, Serialize};

use crate::heard::{Heard, within};

#[derive(Clone, Debug)]
struct Placed(u32);
impl Event for Placed {}

struct Noted(u32);
impl Event for Noted {}

#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refused;

const ROWS: Counters<u32> = Counters::new("lc.rows");

/// A listener that lets others run `turns` times between its beginning and its end.
fn slow(heard: &Heard, phase: Phase, number: usize, turns: usize) -> Registration {
    let to = heard.clone();
    listener::on::<Placed>(format!("lc-01.{phase}.{number}")).phase(phase).order(number as i32).call_async(
        move |_, _| {
            let to = to.clone();
            CallFuture::from_or_box(async move {
                to.note(format!("{phase} begins {number}"));
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                to.note(format!("{phase} ends {number}"));
                Ok(None)
            })
        },
    )
}

on_every_store! {
    /// The peer runs the handlers of one phase at once; here they are awaited one after another, and spawned ones hold nothing up.
    async fn lc_01_every_listener_of_a_phase_ends_before_the_next_phase_begins(home: &dyn Home) {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20 {
            let heard = Heard::new();
            let phases = [Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterCompletion];
            let mut listeners: Vec<Registration> = Vec::new();
            for number in 0..4 {
                listeners.extend(phases.map(|phase| slow(&heard, phase, number, random.usize(0..6))));
            }
            random.shuffle(&mut listeners);
            let bus = Bus::builder().shared_store(home.open()).listeners(listeners).start().await.expect("the bus starts");
            bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
            let expected: Vec<String> = phases
                .iter()
                .flat_map(|phase| (0..4).flat_map(move |number| [format!("{phase} begins {number}"), format!("{phase} ends {number}")]))
                .collect();
            assert_eq!(heard.all(), expected);
        }
    }

    async fn lc_02_after_a_failure_no_later_phase_runs_but_rollback_and_completion(home: &dyn Home) {
        let heard = Heard::new();
        let declare = |id: &'static str, phase: Phase, order: i32| {
            let to = heard.clone();
            listener::on::<Placed>(id).phase(phase).order(order).call(move |_| to.note(id))
        };
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(declare("before 1", Phase::BeforeCommit, 1))
            .listener(listener::on::<Placed>("before 2").phase(Phase::BeforeCommit).order(2).call(|_| Err::<(), _>(Refused)))
            .listener(declare("before 3", Phase::BeforeCommit, 3))
            .listener(declare("commit", Phase::AfterCommit, 1))
            .listener(declare("rollback", Phase::AfterRollback, 1))
            .listener(declare("completion", Phase::AfterCompletion, 1))
            .start()
            .await
            .expect("the bus starts");
        let to = heard.clone();
        let refused = bus.transaction(async |tx| {
            tx.after_completion(2, move |outcome| {
                to.note(format!("{outcome:?}"));
                Ok(())
            });
            ROWS.add(tx, &1, 1)?;
            tx.publish(Placed(1))
        });
        let refused = refused.await.expect_err("a before-commit listener said no");
        assert!(refused.listener_cause::<Refused>().is_some(), "{refused}");
        assert_eq!(heard.all(), ["before 1", "rollback", "completion", "RolledBack"]);
        assert_eq!(ROWS.get(&mut bus.reader().expect("a reader"), &1).expect("a row"), 0);
    }

    /// The peer refuses a handler for a phase that has passed at run time. Here nobody can ask: what runs after the commit is given no
    /// unit of work (`tests/ui/listener/fail/tx_after_the_end.rs`). What can still be asked, in the very phase, is never dropped: it
    /// joins the next round.
    async fn lc_05_what_is_enlisted_for_the_running_phase_runs_in_its_next_round(home: &dyn Home) {
        let heard = Heard::new();
        let to = heard.clone();
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("lc-05").phase(Phase::BeforeCommit).order(5).takes_tx().call_with(move |_, call| -> Result<(), BoxError> {
                let (earlier, later) = (to.clone(), to.clone());
                let tx = call.tx()?;
                tx.before_commit(1, move |tx| {
                    earlier.note("order 1, enlisted late");
                    let innermost = earlier.clone();
                    tx.before_commit(0, move |_| {
                        innermost.note("order 0, enlisted later still");
                        Ok(())
                    });
                    Ok(())
                });
                tx.after_commit(1, move || {
                    later.note("after the commit");
                    Ok(())
                });
                to.note("order 5");
                Ok(())
            }))
            .start()
            .await
            .expect("the bus starts");
        let to = heard.clone();
        let done = bus.transaction(async |tx| {
            tx.before_commit(9, move |_| {
                to.note("order 9");
                Ok(())
            });
            tx.publish(Placed(1))
        });
        done.await.expect("committed");
        let expected = ["order 5", "order 9", "order 1, enlisted late", "order 0, enlisted later still", "after the commit"];
        assert_eq!(heard.all(), expected);
    }

    /// The peer only logs it; here it also comes back beside the committed value, and is counted and told.
    async fn lc_06_a_failing_completion_listener_changes_nothing_and_is_told(home: &dyn Home) {
        let heard = Heard::new();
        let (to, sibling) = (heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .observer(move |notice: &Notice<'_>| {
                if let Notice::AfterFailed { error, .. } = notice {
                    to.note(format!("{} in {}", error.who, error.phase));
                }
            })
            .listener(listener::on::<Placed>("lc-06.fails").phase(Phase::AfterCompletion).order(1).call(|_| Err::<(), _>(Refused)))
            .listener(listener::on::<Placed>("lc-06.panics").phase(Phase::AfterCompletion).order(2).call(|_| -> () { panic!("in the end") }))
            .listener(listener::on::<Placed>("lc-06.sibling").phase(Phase::AfterCompletion).order(3).call(move |_| sibling.note("sibling")))
            .start()
            .await
            .expect("the bus starts");
        let done = bus.transaction(async |tx| {
            ROWS.add(tx, &6, 1)?;
            tx.publish(Placed(1))
        });
        let done = done.await.expect("the commit stands");
        let who: Vec<&str> = done.after_errors.iter().map(|error| error.who.as_str()).collect();
        assert_eq!(who, ["lc-06.fails", "lc-06.panics"]);
        assert!(done.after_errors.iter().all(|error| error.event.as_deref() == Some(Placed::name())));
        assert_eq!(heard.all(), ["lc-06.fails in AfterCompletion", "lc-06.panics in AfterCompletion", "sibling"]);
        assert_eq!((bus.counts().after_errors, ROWS.get(&mut bus.reader().expect("a reader"), &6).expect("a row")), (2, 1));
    }

    /// The peer's suite asserts "at least one" for events published during prepare-commit; here each is delivered exactly once.
    async fn lc_09_nothing_is_delivered_before_the_commit_then_all_in_order_and_what_that_published_too(home: &dyn Home) {
        let heard = Heard::new();
        let (first, second, third) = (heard.clone(), heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("lc-09.first").phase(Phase::BeforeCommit).takes_tx().call_with(move |event, call| -> Result<(), BoxError> {
                first.note(format!("placed {}", event.0));
                if event.0 == 2 {
                    call.tx()?.publish(Noted(20))?;
                    call.tx()?.publish(Placed(21))?;
                }
                Ok(())
            }))
            .listener(listener::on::<Noted>("lc-09.second").phase(Phase::BeforeCommit).call(move |event| second.note(format!("noted {}", event.0))))
            .listener(listener::on::<Placed>("lc-09.third").call(move |event| third.note(format!("after {}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        let published = bus.transaction(async |tx| {
            tx.publish(Placed(1))?;
            tx.publish(Noted(10))?;
            tx.publish(Placed(2))?;
            tx.publish(Placed(3))?;
            assert_eq!(heard.len(), 0, "nothing is delivered while the closure runs");
            Ok::<_, Error>(())
        });
        published.await.expect("committed");
        let expected = [
            "placed 1", "noted 10", "placed 2", "placed 3", "noted 20", "placed 21", "after 1", "after 2", "after 3", "after 21",
        ];
        assert_eq!(heard.all(), expected);
    }

    /// The peer fails at run time when somebody publishes on a unit that commits or has committed. Here the unit is out of reach by then
    /// (`tests/ui/listener/fail/tx_after_the_end.rs`); a `Bus` is not, and through it publishing is loud where it needs a unit of work,
    /// and another unit is a way on.
    async fn lc_10_after_the_commit_one_publishes_in_another_unit_or_is_refused(home: &dyn Home) {
        let heard = Heard::new();
        let (after, stored) = (heard.clone(), heard.clone());
        let bus = Bus::builder()
            .shared_store(home.open())
            .listener(listener::on::<Placed>("lc-10.after").call_async(move |_, mut call| {
                let to = after.clone();
                CallFuture::from_or_box(async move {
                    assert!(call.tx().is_err(), "the finished unit is not given");
                    let bus: Bus = call.take()?;
                    match bus.publish(&Booked(1)) {
                        Err(Error::Publish(PublishError::NeedsUnit { listeners, .. })) => to.note(format!("refused for {listeners:?}")),
                        other => panic!("{other:?}"),
                    }
                    bus.transaction(async |tx| tx.publish(Booked(2))).await?;
                    Ok(None)
                })
            }))
            .listener(listener::on::<Booked>("lc-10.stored").durable().call(move |event| stored.note(format!("booked {}", event.0))))
            .start()
            .await
            .expect("the bus starts");
        let done = bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        assert!(done.after_errors.is_empty(), "{:?}", done.after_errors);
        within(bus.idle()).await;
        assert_eq!(heard.all(), ["refused for [\"lc-10.stored\"]", "booked 2"]);
        within(bus.shutdown(Duration::from_secs(5))).await.expect("nothing runs");
        assert!(matches!(bus.publish(&Placed(1)), Err(Error::Publish(PublishError::ShuttingDown { .. }))));
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Booked(u32);
impl Event for Booked {
    const STORED: Option<Stored<Self>> = Some(Stored::json("lc.booked"));
}
impl StoredEvent for Booked {}

on_embedded_stores! {
    /// The peer rejects a second commit of the same unit at run time. Here a unit of work cannot be kept, and has no verb that commits:
    /// it is lent to a closure that is consumed (`AsyncFnOnce`). Run again, a closure gets another unit, and each has one outcome.
    async fn lc_08_a_unit_of_work_ends_once_and_running_again_is_another_one(home: &dyn Home) {
        let heard = Heard::new();
        let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        let attempt = AtomicU32::new(0);
        let done = bus.transaction_retrying(3, async |tx| {
            let number = attempt.fetch_add(1, Ordering::SeqCst);
            let to = heard.clone();
            tx.after_completion(1, move |outcome| {
                to.note(format!("{number} {outcome:?}"));
                Ok(())
            });
            let read = ROWS.get(tx, &8)?;
            if number == 0 {
                // Somebody else changes what was read.
                bus.transaction(async |tx| ROWS.add(tx, &8, 10)).await?;
            }
            ROWS.set(tx, &8, read + 1)
        });
        done.await.expect("the second run stands");
        assert_eq!(heard.all(), ["0 RolledBack", "1 Committed"]);
        assert_eq!(ROWS.get(&mut bus.reader().expect("a reader"), &8).expect("a row"), 11);
    }
}
