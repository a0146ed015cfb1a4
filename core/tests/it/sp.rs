//! Scopes, savepoints, rollback-only: the SP cases, after Spring's tests of its JDBC transactions; and what a scope undoes.

use aftercommit::error::{StoreError, UnitError};
use aftercommit::listener;
use aftercommit::prelude::*;
use aftercommit::testing::{FailingStore, Fault, Recorder, Step};
use futures::FutureExt;

use crate::scene::{Heard, No, Placed, ROWS, Rang, bus_on, counting, done, row};

const BOUND: [Phase; 4] = [Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];

/// Notes the outcome that a completion hook sees.
fn note_outcome(tx: &mut Tx, heard: &Heard) {
    let heard = heard.clone();
    tx.after_completion(None, move |outcome| {
        heard.note(format!("{outcome:?}"));
        Ok(())
    });
}

on_every_store! {
    /// A joined scope that failed dooms the unit: though the outer closure answers `Ok`, the caller gets an error that says
    /// so, and completion hooks see a rollback.
    async fn sp_01_failed_joined_scope_makes_the_outer_commit_fail(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            note_outcome(tx, &heard);
            ROWS.put(tx, &1, &"outer".to_owned())?;
            assert_eq!(tx.nested(async |_| Err::<(), _>(No)).await, Err(No));
            Ok::<_, Error>(())
        });
        let Err(Error::Unit(UnitError::RollbackOnly { reason })) = ended.await else { panic!("it committed") };
        assert_eq!(reason, "a nested scope failed");
        assert_eq!(heard.all(), ["RolledBack"]);
        assert_eq!(row(&bus, 1), None);
    }

    /// So does one that marks the unit and answers `Ok`.
    async fn sp_01_joined_scope_that_marks_rollback_only_makes_the_outer_commit_fail(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            note_outcome(tx, &heard);
            tx.nested(async |tx| {
                tx.set_rollback_only("not today");
                Ok::<_, Error>(())
            })
            .await
        });
        assert_eq!(ended.await.expect_err("rolled back").to_string(), "the unit of work was rolled back: not today");
        assert_eq!(heard.all(), ["RolledBack"]);
    }

    /// The error of a joined scope is raised where that scope ends. The peer needs an option for it, as its inner scope may
    /// end without an error; one that only marked the unit can be asked about here, at once.
    async fn sp_02_error_is_raised_at_the_inner_boundary(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            assert_eq!(tx.rollback_only(), None);
            tx.nested(async |tx| {
                tx.set_rollback_only("marked inside");
                Ok::<_, Error>(())
            })
            .await?;
            assert_eq!(tx.rollback_only(), Some("marked inside"));
            let inner: Result<(), Error> = tx.nested(async |tx| tx.savepoint(async |_| Err(Error::from(StoreError::Closed))).await).await;
            assert!(matches!(inner, Err(Error::Store(StoreError::Closed))), "the inner error itself, at the inner boundary");
            Ok::<_, Error>(())
        });
        ended.await.expect_err("rolled back");
    }

    /// A savepoint that succeeds is released and runs nothing; hooks and listeners of what was done inside run once, at the
    /// outer commit.
    async fn sp_04_successful_savepoint_runs_hooks_at_the_outer_commit_only(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(heard.in_phases::<Rang>(&BOUND)).start().await.expect("a bus");
        bus.transaction(async |tx| {
            tx.savepoint(async |tx| {
                ROWS.put(tx, &1, &"inner".to_owned())?;
                note_outcome(tx, &heard);
                tx.publish(Rang(1))
            })
            .await?;
            assert!(heard.all().is_empty());
            ROWS.put(tx, &2, &"outer".to_owned())
        })
        .await
        .expect("committed");
        // Those without an order run as they were enlisted.
        assert_eq!(heard.all(), ["BeforeCommit", "AfterCommit", "Committed", "AfterCompletion"]);
        assert_eq!((row(&bus, 1).as_deref(), row(&bus, 2).as_deref()), (Some("inner"), Some("outer")));
    }

    /// A commit that the store refuses is an error, gives the locks back, and nobody observes a commit.
    async fn sp_06_failed_commit_is_an_error_and_nobody_observes_a_commit(home: &dyn Home) {
        let heard = Heard::default();
        let store = FailingStore::around(home.open());
        let phases = heard.in_phases::<Rang>(&BOUND);
        let bus = Bus::builder().store(store.clone()).listeners(phases).start().await.expect("a bus");
        store.fail_next(Step::Commit, Fault::Error);
        let ended = bus.transaction(async |tx| {
            tx.lock(1u32).await?;
            ROWS.put(tx, &1, &"one".to_owned())?;
            note_outcome(tx, &heard);
            tx.publish(Rang(1))
        });
        assert!(matches!(ended.await, Err(Error::Store(StoreError::Backend { action: "commit", .. }))));
        assert_eq!(heard.take(), ["BeforeCommit", "AfterRollback", "RolledBack", "AfterCompletion"]);
        assert_eq!((row(&bus, 1), bus.locked_keys()), (None, 0));
        bus.transaction(async |tx| tx.publish(Rang(2))).await.expect("the bus goes on");
    }

    /// Nor if the store's answer is lost: then it is in doubt whether it was stored, and only completion hooks and listeners
    /// run. The peer may be configured to roll back then; what was handed over cannot be taken back.
    async fn sp_06_commit_in_doubt_is_no_commit_for_anybody(home: &dyn Home) {
        for stored in [false, true] {
            let (heard, told) = (Heard::default(), Recorder::new());
            let store = FailingStore::around(home.open());
            let bus = Bus::builder()
                .store(store.clone())
                .listeners(heard.in_phases::<Rang>(&BOUND))
                .observer(told.clone())
                .start()
                .await
                .expect("a bus");
            store.fail_next(Step::Commit, Fault::InDoubt { stored });
            let ended = bus.transaction(async |tx| {
                tx.lock(1u32).await?;
                note_outcome(tx, &heard);
                tx.publish(Rang(1))
            });
            assert!(ended.await.expect_err("no answer").is_in_doubt());
            assert_eq!(heard.all(), ["BeforeCommit", "InDoubt", "AfterCompletion"]);
            assert_eq!((bus.locked_keys(), bus.counts().in_doubt, told.notices().len()), (0, 1, 1));
        }
    }

    /// A savepoint that fails undoes its rows, its events and what they enlisted, and the unit goes on; the after-rollback and
    /// after-completion listeners of its events run when the unit ends.
    async fn a_failed_savepoint_undoes_its_own_rows_and_events_only(home: &dyn Home) {
        let heard = Heard::default();
        let phases = BOUND.map(|phase| {
            let heard = heard.clone();
            let note = move |event: &Rang| heard.note(format!("{phase} {}", event.0));
            listener::on::<Rang>(format!("test.{phase}")).phase(phase).call(note)
        });
        let bus = bus_on(home).listeners(phases).listener(counting("counting")).start().await.expect("a bus");
        let done_with = bus.transaction(async |tx| {
            ROWS.put(tx, &1, &"before".to_owned())?;
            ROWS.put(tx, &2, &"before".to_owned())?;
            tx.publish(Rang(1))?;
            tx.publish(Placed(1))?;
            let undone = tx.savepoint(async |tx| -> Result<(), Error> {
                tx.lock(9u32).await?;
                ROWS.put(tx, &1, &"inside".to_owned())?;
                ROWS.remove(tx, &2)?;
                ROWS.put(tx, &3, &"inside".to_owned())?;
                tx.publish(Rang(2))?;
                tx.publish(Placed(2))?;
                assert_eq!(ROWS.get(tx, &2)?, None);
                Err(StoreError::Closed.into())
            });
            assert!(matches!(undone.await, Err(Error::Store(StoreError::Closed))));
            assert_eq!(ROWS.get(tx, &1)?.as_deref(), Some("before"));
            assert_eq!(ROWS.iter(tx).count(), 2);
            tx.publish(Rang(3))?;
            tx.publish(Placed(3))
        });
        assert_eq!(done_with.await.expect("committed").positions.len(), 2);
        assert_eq!(
            heard.all(),
            [
                "BeforeCommit 1", "BeforeCommit 3", "AfterCommit 1", "AfterCommit 3", "AfterRollback 2",
                "AfterCompletion 1", "AfterCompletion 2", "AfterCompletion 3",
            ]
        );
        bus.idle().await;
        assert_eq!([1, 2, 3].map(|key| done(&bus, key)), [1, 0, 1]);
        assert_eq!([1, 2, 3].map(|key| row(&bus, key).is_some()), [true, true, false]);
        assert_eq!(bus.locked_keys(), 0);
    }

    /// Savepoints nest: the inner one undoes its own part, the outer one everything.
    async fn savepoints_nest(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        bus.transaction(async |tx| {
            let outer = tx.savepoint(async |tx| {
                ROWS.put(tx, &1, &"outer".to_owned())?;
                let inner: Result<(), Error> = tx
                    .savepoint(async |tx| {
                        ROWS.put(tx, &2, &"inner".to_owned())?;
                        Err(StoreError::Closed.into())
                    })
                    .await;
                assert!(inner.is_err());
                assert_eq!((ROWS.contains(tx, &1)?, ROWS.contains(tx, &2)?), (true, false));
                tx.savepoint(async |tx| ROWS.put(tx, &3, &"kept so far".to_owned())).await?;
                Err::<(), Error>(StoreError::Closed.into())
            });
            assert!(outer.await.is_err());
            assert_eq!(ROWS.iter(tx).count(), 0);
            ROWS.put(tx, &4, &"after".to_owned())
        })
        .await
        .expect("committed");
        assert_eq!([1, 2, 3, 4].map(|key| row(&bus, key).is_some()), [false, false, false, true]);
    }

    /// A savepoint contains what would doom the unit: an immediate listener's error that was swallowed inside, a joined scope
    /// that failed inside, a mark that was set inside.
    async fn a_savepoint_contains_what_would_doom_the_unit(home: &dyn Home) {
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("no").phase(Phase::Immediate).call(|_| Err::<(), _>(No)))
            .start()
            .await
            .expect("a bus");
        bus.transaction(async |tx| {
            for way in 0..3 {
                let contained: Result<(), Error> = tx
                    .savepoint(async |tx| {
                        ROWS.put(tx, &way, &"inside".to_owned())?;
                        match way {
                            0 => drop(tx.publish(Rang(1))),
                            1 => drop(tx.nested(async |_| Err::<(), _>(No)).await),
                            _ => tx.set_rollback_only("marked inside"),
                        }
                        Ok(())
                    })
                    .await;
                assert!(matches!(contained, Err(Error::Unit(UnitError::RollbackOnly { .. }))), "way {way}");
                assert_eq!(tx.rollback_only(), None);
            }
            ROWS.put(tx, &7, &"after".to_owned())
        })
        .await
        .expect("committed");
        assert_eq!([0, 1, 2, 7].map(|key| row(&bus, key).is_some()), [false, false, false, true]);
    }

    /// What fails inside a savepoint leaves no trace in the descent of what is published after it.
    async fn an_undone_event_is_nobodys_cause(home: &dyn Home) {
        let heard = Heard::default();
        let note = heard.clone();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("no").phase(Phase::Immediate).call(|_| Err::<(), _>(No)))
            .listener(heard.in_phase::<Rang>(Phase::AfterCommit))
            .listener(listener::on::<Placed>("descent").call_with(move |_, call| {
                note.note(format!("caused {}", call.metadata().causation.is_some()));
            }))
            .start()
            .await
            .expect("a bus");
        bus.transaction(async |tx| {
            assert!(tx.savepoint(async |tx| tx.publish(Rang(1))).await.is_err());
            tx.publish(Placed(1))
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["caused false"]);
    }

    /// A scope whose future is dropped dooms the unit; a savepoint around a joined scope contains that, while a savepoint that
    /// was itself dropped leaves something that nobody can undo any more, whatever stands around it.
    async fn a_dropped_scope_dooms_the_unit(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        for in_savepoint in [true, false] {
            let ended = bus.transaction(async |tx| {
                let scope = tx.savepoint(async |tx| {
                    ROWS.put(tx, &1, &"inside".to_owned())?;
                    if in_savepoint {
                        let inner = tx.savepoint(async |_| std::future::pending::<Result<(), Error>>().await);
                        after_some_polls(inner).await;
                    } else {
                        let inner = tx.nested(async |_| std::future::pending::<Result<(), Error>>().await);
                        after_some_polls(inner).await;
                    }
                    Ok::<_, Error>(())
                });
                let contained = scope.await;
                assert_eq!(contained.is_err(), !in_savepoint, "only what can be undone is undone");
                assert_eq!(tx.rollback_only().is_some(), in_savepoint);
                ROWS.put(tx, &2, &"outside".to_owned())
            });
            assert_eq!(ended.await.is_err(), in_savepoint);
            assert_eq!([1, 2].map(|key| row(&bus, key).is_some()), [false, !in_savepoint]);
        }
    }
}

/// Polls a future that never ends until it has come as far as it does, and drops it.
async fn after_some_polls<F: Future>(future: F) {
    let mut future = Box::pin(future);
    for _ in 0..8 {
        assert!((&mut future).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
}
