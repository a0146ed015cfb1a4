//! A unit of work whose future is dropped, after any number of polls: all of it or nothing, and whoever should hear of it does.

use std::panic::AssertUnwindSafe;
use std::task::Poll;

use aftercommit::listener::{self, Registration};
use aftercommit::prelude::*;
use futures::FutureExt;
use tokio::task::yield_now;

use crate::scene::{Heard, No, Placed, ROWS, Rang, bus_on, counting, done, row, yielding};

/// Keys and numbers of one round lie in a decade of their own.
const DECADE: u32 = 10;

/// Polls `future` at most `polls` times; drops it then, or answers what it came to.
async fn within<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    if polls == 0 {
        return None;
    }
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Listeners in every phase that note phase and number; all that can wait do.
fn everywhere(heard: &Heard) -> Vec<Registration> {
    let mut listeners = Vec::new();
    for phase in Phase::ALL {
        let note = heard.clone();
        let noting = move |event: &Rang| note.note(format!("{phase} {}", event.0 % DECADE));
        let declared = listener::on::<Rang>(format!("test.{phase}")).phase(phase);
        listeners.push(match phase {
            Phase::Immediate => declared.call(noting),
            _ => declared.call_async(yielding(noting)),
        });
    }
    let note = heard.clone();
    let spawned = move |event: &Rang| note.note(format!("spawned {}", event.0 % DECADE));
    listeners.push(listener::on::<Rang>("test.spawned").spawn().call_async(yielding(spawned)));
    listeners.push(counting("test.counting"));
    listeners
}

/// Everything a unit of work can do, with a place to be dropped after each.
async fn work(tx: &mut Tx, base: u32) -> Result<(), Error> {
    yield_now().await;
    tx.lock(1u32).await?;
    yield_now().await;
    ROWS.put(tx, &(base + 1), &"outside".to_owned())?;
    tx.publish(Rang(base + 1))?;
    yield_now().await;
    tx.publish(Placed(base + 1))?;
    yield_now().await;
    let undone: Result<(), Error> = tx
        .savepoint(async |tx| {
            tx.lock(2u32).await?;
            ROWS.put(tx, &(base + 2), &"undone".to_owned())?;
            tx.publish(Rang(base + 2))?;
            tx.publish(Placed(base + 2))?;
            yield_now().await;
            Err(aftercommit::error::StoreError::Closed.into())
        })
        .await;
    assert!(undone.is_err());
    yield_now().await;
    tx.savepoint(async |tx| {
        yield_now().await;
        ROWS.put(tx, &(base + 3), &"kept".to_owned())?;
        yield_now().await;
        Ok::<_, Error>(())
    })
    .await?;
    tx.nested(async |tx| {
        ROWS.put(tx, &(base + 4), &"joined".to_owned())?;
        yield_now().await;
        tx.publish(Placed(base + 4))
    })
    .await?;
    yield_now().await;
    Ok(())
}

on_every_store! {
    /// For every number of polls: either everything of the unit is stored, or nothing; exactly the after-phases of that outcome
    /// run, once each; its locks are free; the bus becomes idle and works on.
    async fn a_unit_dropped_after_any_number_of_polls_is_whole_or_gone(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(everywhere(&heard)).start().await.expect("a bus");
        let (mut rolled_back, mut committed_unheard) = (0, 0);
        for polls in 0.. {
            assert!(polls < 500, "it does not end");
            let base = u32::try_from(polls).expect("few") * DECADE;
            let answer = within(polls, bus.transaction(async |tx| work(tx, base).await)).await;
            bus.idle().await;
            let stored = row(&bus, base + 1).is_some();
            let count = |line: &str| heard.count(line);
            let rows = [1, 2, 3, 4].map(|key| row(&bus, base + key).is_some());
            let delivered = [1, 2, 4].map(|key| done(&bus, base + key));
            let lines = heard.all();
            assert_eq!(rows, [stored, false, stored, stored], "{polls} polls: {lines:?}");
            assert_eq!(delivered, if stored { [1, 0, 1] } else { [0, 0, 0] }, "{polls} polls: {lines:?}");
            for number in [1, 2] {
                let published = count(&format!("Immediate {number}"));
                let kept = usize::from(stored && number == 1);
                let undone = published - kept;
                for (line, times) in
                    [("AfterCommit", kept), ("spawned", kept), ("AfterRollback", undone), ("AfterCompletion", published)]
                {
                    assert_eq!(count(&format!("{line} {number}")), times, "{line} {number}, {polls} polls: {lines:?}");
                }
                assert!(count(&format!("BeforeCommit {number}")) <= published);
            }
            assert_eq!((bus.locked_keys(), bus.counts().abandoned), (0, 0), "{polls} polls");
            bus.transaction(async |tx| {
                tx.lock(1u32).await?;
                tx.lock(2u32).await?;
                ROWS.put(tx, &(base + 9), &"after".to_owned())
            })
            .await
            .expect("the bus works on");
            heard.take();
            match answer {
                Some(answer) => {
                    assert!(stored && answer.expect("committed").after_errors.is_empty());
                    break;
                }
                None if stored => committed_unheard += 1,
                None => rolled_back += 1,
            }
        }
        assert!(rolled_back > 10 && committed_unheard >= 3, "{rolled_back} rolled back, {committed_unheard} committed");
    }

    /// So it is with a unit that rolls back of its own: dropped at any time, it has rolled back, and said so once.
    async fn a_failing_unit_dropped_after_any_number_of_polls_is_gone(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(everywhere(&heard)).start().await.expect("a bus");
        for polls in 0.. {
            assert!(polls < 500, "it does not end");
            let answer = within(
                polls,
                bus.transaction(async |tx| {
                    work(tx, 0).await?;
                    Err::<(), aftercommit::error::BoxError>(No.into())
                }),
            )
            .await;
            bus.idle().await;
            assert_eq!([1, 2, 3, 4].map(|key| row(&bus, key)), [None, None, None, None], "{polls} polls");
            for number in [1, 2] {
                let published = heard.count(&format!("Immediate {number}"));
                assert_eq!(heard.count(&format!("AfterRollback {number}")), published, "{polls} polls");
                assert_eq!(heard.count(&format!("AfterCompletion {number}")), published, "{polls} polls");
            }
            assert_eq!(heard.all().iter().filter(|line| line.contains("Commit")).count(), 0, "{:?}", heard.all());
            assert_eq!(bus.locked_keys(), 0);
            heard.take();
            if let Some(answer) = answer {
                assert!(answer.expect_err("its own error").is::<No>());
                break;
            }
        }
    }

    /// A panic in the closure, or in an immediate listener, unwinds through the caller; the unit has rolled back like a dropped
    /// one. In a before-commit listener it is that listener's error.
    async fn a_panic_rolls_the_unit_back(home: &dyn Home) {
        for place in [Phase::Immediate, Phase::BeforeCommit, Phase::AfterCommit] {
            let heard = Heard::default();
            let bus = bus_on(home)
                .listeners(everywhere(&heard))
                .listener(listener::on::<Placed>("panics").phase(place).call(|_| -> () { panic!("out of paper") }))
                .start()
                .await
                .expect("a bus");
            let unit = bus.transaction(async |tx| {
                tx.lock(1u32).await?;
                ROWS.put(tx, &1, &"printed".to_owned())?;
                tx.publish(Rang(1))?;
                tx.publish(Placed(1))
            });
            let ended = AssertUnwindSafe(unit).catch_unwind().await;
            bus.idle().await;
            let stored = row(&bus, 1).is_some();
            match place {
                Phase::Immediate => assert!(ended.is_err() && !stored),
                Phase::BeforeCommit => {
                    let Ok(Err(Error::Listener(error))) = ended else { panic!("it must be contained") };
                    assert!(error.is_panic() && error.listener == "panics" && !stored);
                }
                _ => {
                    let done_with = ended.expect("contained").expect("committed");
                    assert_eq!(done_with.after_errors.len(), 1);
                    assert!(done_with.after_errors[0].cause.to_string().contains("out of paper") && stored);
                }
            }
            assert_eq!((heard.count("AfterRollback 1"), heard.count("AfterCommit 1")), if stored { (0, 1) } else { (1, 0) });
            assert_eq!((heard.count("AfterCompletion 1"), bus.locked_keys()), (1, 0));
        }
    }
}

on_embedded_stores! {
    /// Who is dropped while it waits for a lock leaves the queue, and whoever waits behind it comes next.
    async fn a_unit_dropped_while_it_waits_for_a_lock_leaves_the_queue(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(everywhere(&heard)).start().await.expect("a bus");
        let waiting = bus.transaction(async |tx| {
            tx.lock(1u32).await?;
            let mut given_up = Box::pin(bus.transaction(async |tx| work(tx, 0).await));
            let mut patient = Box::pin(bus.transaction(async |tx| work(tx, DECADE).await));
            for _ in 0..5 {
                assert!((&mut given_up).now_or_never().is_none());
                assert!((&mut patient).now_or_never().is_none());
            }
            drop(given_up);
            Ok::<_, Error>(patient)
        });
        let patient = waiting.await.expect("committed").value;
        assert!(heard.all().is_empty());
        patient.await.expect("its turn has come");
        bus.idle().await;
        assert_eq!([1, DECADE + 1].map(|key| row(&bus, key).is_some()), [false, true]);
        assert_eq!(bus.locked_keys(), 0);
    }
}
