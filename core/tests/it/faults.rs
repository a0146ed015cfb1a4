//! A store that fails at any of its steps: what the caller is told, which phases run, what is stored afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use aftercommit::error::{BoxError, StoreError, UnitError};
use aftercommit::listener::{self, Redeliver, Registration, fixed};
use aftercommit::prelude::*;
use aftercommit::testing::{FailingStore, Fault, Recorder, Step};

use crate::scene::{DONE, Heard, No, Placed, ROWS, Rang, bus_on, done, row};

const BOUND: [Phase; 4] = [Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];
const LONG: Duration = Duration::from_secs(60);

/// A durable listener that counts its event, and is called again at once if that fails.
fn counting() -> Registration {
    listener::on::<Placed>("test.counting")
        .durable()
        .redeliver(at_once())
        .takes_tx()
        .call_with(|event: &Placed, call| -> Result<(), BoxError> { Ok(DONE.add(call.tx()?, &event.0, 1)?) })
}

fn at_once() -> Redeliver {
    Redeliver::new().backoff(fixed(Duration::ZERO))
}

async fn start(store: &FailingStore, heard: &Heard) -> Bus {
    let bus = Bus::builder().store(store.clone()).listeners(heard.in_phases::<Rang>(&BOUND)).listener(counting());
    let bus = bus.start().await.expect("a bus");
    bus.idle().await;
    bus
}

/// Reads and writes, a savepoint that is undone and one that is kept; what a savepoint answers is swallowed.
async fn work(tx: &mut Tx) -> Result<(), Error> {
    tx.lock(1u32).await?;
    tx.publish(Rang(1))?;
    tx.publish(Placed(1))?;
    ROWS.get(tx, &1)?;
    ROWS.put(tx, &1, &"outside".to_owned())?;
    let undone: Result<(), Error> = tx
        .savepoint(async |tx| {
            ROWS.put(tx, &2, &"undone".to_owned())?;
            Err(StoreError::Closed.into())
        })
        .await;
    drop(undone);
    drop(tx.savepoint(async |tx| ROWS.put(tx, &3, &"kept".to_owned())).await);
    Ok(())
}

const STEPS: [Step; 10] = [
    Step::Begin,
    Step::Read,
    Step::Write,
    Step::Savepoint,
    Step::Write,
    Step::Undo,
    Step::Savepoint,
    Step::Write,
    Step::Release,
    Step::Commit,
];

/// What the caller of a unit of work is told.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Told {
    Committed,
    Storage(&'static str),
    RollbackOnly,
    Conflict,
    InDoubt,
}

fn told<T>(ended: Result<T, Error>) -> Told {
    match ended {
        Ok(_) => Told::Committed,
        Err(Error::Store(StoreError::Backend { action, .. })) => Told::Storage(action),
        Err(Error::Unit(UnitError::RollbackOnly { .. })) => Told::RollbackOnly,
        Err(Error::Unit(UnitError::Conflict { .. })) => Told::Conflict,
        Err(Error::Unit(UnitError::InDoubt { .. })) => Told::InDoubt,
        Err(other) => panic!("another error: {other:?}"),
    }
}

const UNHEARD: &[&str] = &[];
const COMMITTED: &[&str] = &["BeforeCommit", "AfterCommit", "AfterCompletion"];
const ROLLED_BACK: &[&str] = &["AfterRollback", "AfterCompletion"];
const REFUSED: &[&str] = &["BeforeCommit", "AfterRollback", "AfterCompletion"];
const IN_DOUBT: &[&str] = &["BeforeCommit", "AfterCompletion"];

/// Which of the rows 1, 2 and 3 are stored, and how often the durable listener has counted, once all is opened anew.
type Left = ([bool; 3], i64);

const NOTHING: Left = ([false; 3], 0);
const ALL: Left = ([true, false, true], 1);

on_every_store! {
    /// Each step of a unit of work fails in turn.
    async fn each_step_that_fails_has_its_outcome(home: &dyn Home) {
        let expected: [(usize, Fault, Told, &[&str], Left); 14] = [
            (0, Fault::Error, Told::Storage("begin a unit of work"), UNHEARD, NOTHING),
            (1, Fault::Error, Told::Storage("read a row"), ROLLED_BACK, NOTHING),
            (2, Fault::Error, Told::Storage("write a row"), ROLLED_BACK, NOTHING),
            // A savepoint that the store lost cannot be swallowed, and before-commit listeners are not asked; an error inside one can.
            (3, Fault::Error, Told::RollbackOnly, ROLLED_BACK, NOTHING),
            (4, Fault::Error, Told::Committed, COMMITTED, ALL),
            (5, Fault::Error, Told::RollbackOnly, ROLLED_BACK, NOTHING),
            (6, Fault::Error, Told::RollbackOnly, ROLLED_BACK, NOTHING),
            (7, Fault::Error, Told::Committed, COMMITTED, ([true, false, false], 1)),
            (8, Fault::Error, Told::RollbackOnly, ROLLED_BACK, NOTHING),
            (9, Fault::Error, Told::Storage("commit"), REFUSED, NOTHING),
            (9, Fault::Conflict, Told::Conflict, REFUSED, NOTHING),
            (9, Fault::InDoubt { stored: false }, Told::InDoubt, IN_DOUBT, NOTHING),
            (9, Fault::InDoubt { stored: true }, Told::InDoubt, IN_DOUBT, ALL),
            (usize::MAX / 2, Fault::Error, Told::Committed, COMMITTED, ALL),
        ];
        for (at, fault, answer, phases, left) in expected {
            let case = format!("step {at}, {fault:?}");
            let (heard, store) = (Heard::default(), FailingStore::around(home.open()));
            let bus = start(&store, &heard).await;
            store.clear_steps();
            store.fail_after(at, fault);
            let ended = bus.transaction(async |tx| work(tx).await).await;
            assert_eq!(told(ended), answer, "{case}");
            assert_eq!(heard.all(), phases, "{case}");
            assert_eq!(bus.locked_keys(), 0, "{case}");
            assert_eq!(bus.counts().in_doubt, u64::from(answer == Told::InDoubt), "{case}");
            assert_eq!(bus.counts().conflicts, u64::from(answer == Told::Conflict), "{case}");
            let mut taken = store.steps();
            taken.truncate(STEPS.len());
            if at >= 9 {
                assert_eq!(taken, STEPS, "{case}");
            } else {
                assert_eq!(taken[..=at], STEPS[..=at], "{case}");
            }
            // A store in doubt takes nothing more, whatever else fails the bus goes on.
            let goes_on = bus.transaction(async |tx| ROWS.put(tx, &9, &"goes on".to_owned())).await;
            let poisoned = matches!(goes_on, Err(Error::Store(StoreError::Poisoned { .. })));
            assert_eq!((goes_on.is_ok(), poisoned), if answer == Told::InDoubt { (false, true) } else { (true, false) });
            drop((bus, store));

            let again = FailingStore::around(home.open());
            let bus = start(&again, &heard).await;
            assert_eq!(([1, 2, 3].map(|key| row(&bus, key).is_some()), done(&bus, 1)), left, "{case}");
            bus.transaction(async |tx| {
                for key in [1, 3, 9] {
                    ROWS.remove(tx, &key)?;
                }
                DONE.remove(tx, &1)
            })
            .await
            .expect("cleared for the next case");
            bus.shutdown(LONG).await.expect("in good order");
        }
    }

    /// A rollback that fails changes nothing for the caller, who is told why the unit rolls back; the observer hears of it.
    async fn a_rollback_that_fails_is_told_to_the_observer_only(home: &dyn Home) {
        let (heard, observed) = (Heard::default(), Recorder::new());
        let store = FailingStore::around(home.open());
        let bus = Bus::builder()
            .store(store.clone())
            .listeners(heard.in_phases::<Rang>(&BOUND))
            .observer(observed.clone())
            .start()
            .await
            .expect("a bus");
        store.fail_next(Step::RollBack, Fault::Error);
        let ended = bus.transaction(async |tx| -> Result<(), BoxError> {
            work(tx).await?;
            Err(No.into())
        });
        assert!(ended.await.expect_err("its own error").is::<No>());
        assert_eq!(store.fired(), 1);
        assert_eq!(heard.all(), ROLLED_BACK);
        assert_eq!(bus.counts().abandoned, 1);
        assert!(observed.notices().iter().any(|notice| notice.contains("a rollback: cannot roll back")));
        assert_eq!((row(&bus, 1), bus.locked_keys()), (None, 0));
        bus.transaction(async |tx| work(tx).await).await.expect("the bus goes on");
    }

    /// A retrying unit runs again after a conflict, found at the commit or before its error is believed; not after anything else.
    async fn retrying_runs_again_after_conflicts_only(home: &dyn Home) {
        for (step, fault, closure_fails, runs) in [
            (Step::Commit, Fault::Conflict, false, 2),
            (Step::Commit, Fault::Error, false, 1),
            (Step::Commit, Fault::InDoubt { stored: false }, false, 1),
            (Step::Validate, Fault::Conflict, true, 2),
            (Step::Validate, Fault::Error, true, 1),
            (Step::Begin, Fault::Error, false, 0),
        ] {
            let store = FailingStore::around(home.open());
            let bus = Bus::builder().store(store.clone()).start().await.expect("a bus");
            store.fail_next(step, fault);
            let ran = AtomicUsize::new(0);
            let ended = bus.transaction_retrying(3, async |tx| -> Result<(), BoxError> {
                ran.fetch_add(1, Ordering::SeqCst);
                ROWS.get(tx, &1)?;
                if closure_fails { Err(No.into()) } else { Ok(()) }
            });
            let ended = ended.await;
            assert_eq!(ran.load(Ordering::SeqCst), runs, "{step:?} {fault:?}");
            assert_eq!(ended.is_ok(), runs == 2 && !closure_fails, "{step:?} {fault:?}");
            if closure_fails {
                assert!(ended.expect_err("its own error").is::<No>());
            }
            assert_eq!(store.fired(), 1);
        }
    }

    /// Whatever single step fails from the start of a bus until all is delivered, those of the durable listener's worker among
    /// them: opened anew, what was answered as committed is there, what was refused is not, and what is stored is delivered,
    /// with its effect on the store exactly once.
    async fn any_step_that_fails_loses_nothing_and_doubles_nothing(home: &dyn Home) {
        let faults =
            [Fault::Error, Fault::Conflict, Fault::InDoubt { stored: false }, Fault::InDoubt { stored: true }];
        let mut key = 10;
        for fault in faults {
            let mut at = 0;
            loop {
                key += 1;
                let case = format!("step {at}, {fault:?}");
                let store = FailingStore::around(home.open());
                store.fail_after(at, fault);
                let ended = match Bus::builder().store(store.clone()).listener(counting()).start().await {
                    Err(_) => None,
                    Ok(bus) => {
                        let ended = bus
                            .transaction(async |tx| {
                                ROWS.put(tx, &key, &"stored".to_owned())?;
                                tx.publish(Placed(key))
                            })
                            .await;
                        bus.idle().await;
                        Some(ended.map(|_| ()))
                    }
                };
                let fired = store.fired();
                drop(store);
                let again = bus_on(home).listener(counting()).start().await.expect("the store inside is sound");
                again.idle().await;
                let stored = row(&again, key).is_some();
                match ended {
                    Some(Ok(())) => assert!(stored, "{case}: what was committed is lost"),
                    Some(Err(error)) if error.is_in_doubt() => {}
                    Some(Err(_)) | None => assert!(!stored, "{case}: what was refused is stored"),
                }
                assert_eq!(done(&again, key), i64::from(stored), "{case}");
                again.shutdown(LONG).await.expect("in good order");
                if fired == 0 {
                    break;
                }
                at += 1;
            }
            assert!(at >= 9, "only {at} steps could fail");
        }
    }

    /// A store that cannot be closed is said at shutdown, and taken for unclean when opened again.
    async fn a_store_that_cannot_be_closed_is_said_at_shutdown(home: &dyn Home) {
        let store = FailingStore::around(home.open());
        let bus = Bus::builder().store(store.clone()).start().await.expect("a bus");
        store.fail_next(Step::Close, Fault::Error);
        let error = bus.shutdown(LONG).await.expect_err("it could not be closed");
        assert_eq!(error.to_string(), "the store was not closed in good order");
        drop((bus, store));
        assert!(!home.open().was_clean());
    }
}
