//! Transactional listener phases: the TX cases, after Spring's tests of its transactional listeners.

use std::sync::Arc;

use aftercommit::error::{BoxError, ListenerError, PublishError, StartError, UnitError, Warning};
use aftercommit::listener::{self, Declaration, Registration, WithoutTx};
use aftercommit::observe::{Interceptor, Notice};
use aftercommit::prelude::*;
use aftercommit::testing::Recorder;
use aftercommit::transaction::CallFuture;

use crate::scene::{Heard, No, Placed, ROWS, Rang, bus_on, row, yielding};

/// Every phase but the immediate one.
const BOUND: [Phase; 4] = [Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion];

on_every_store! {
    /// An immediate listener runs before `publish` returns, and not again at the commit.
    async fn tx_01_immediate_listener_runs_before_publish_returns_and_not_again(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::Immediate)).start().await.expect("a bus");
        let done = bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            Ok::<_, Error>(heard.all())
        });
        assert_eq!(done.await.expect("committed").value, ["Immediate"]);
        assert_eq!(heard.all(), ["Immediate"]);
    }

    /// An immediate listener that fails takes the unit with it: its error reaches the caller by value, the rows are gone,
    /// and of the later phases only those of a rollback run.
    async fn tx_02_immediate_failure_reaches_the_caller_and_rolls_back(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("no").phase(Phase::Immediate).call(|_| Err::<(), _>(No)))
            .listeners(heard.in_phases::<Rang>(&BOUND))
            .start()
            .await
            .expect("a bus");
        let ended = bus.transaction(async |tx| {
            ROWS.put(tx, &1, &"one".to_owned())?;
            tx.publish(Rang(1))
        });
        let error = ended.await.expect_err("the listener said no");
        assert_eq!(error.listener_cause(), Some(&No));
        assert!(matches!(error, Error::Listener(ListenerError { listener, .. }) if listener == "no"));
        assert_eq!(heard.all(), ["AfterRollback", "AfterCompletion"]);
        assert_eq!(row(&bus, 1), None);
    }

    /// As TX-02 where the publisher swallows the error: the unit cannot commit all the same.
    async fn tx_02_swallowed_immediate_failure_still_rolls_back(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("no").phase(Phase::Immediate).call(|_| Err::<(), _>(No)))
            .listeners(heard.in_phases::<Rang>(&BOUND))
            .start()
            .await
            .expect("a bus");
        let ended = bus.transaction(async |tx| {
            ROWS.put(tx, &1, &"one".to_owned())?;
            assert!(tx.publish(Rang(1)).is_err());
            Ok::<_, Error>(())
        });
        assert!(matches!(ended.await, Err(Error::Unit(UnitError::RollbackOnly { .. }))));
        assert_eq!(heard.all(), ["AfterRollback", "AfterCompletion"]);
        assert_eq!(row(&bus, 1), None);
    }

    /// An after-completion listener runs once, and only after the commit.
    async fn tx_03_after_completion_runs_once_after_a_commit(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::AfterCompletion)).start().await.expect("a bus");
        let done = bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            let before = heard.clone();
            tx.before_commit(10, move |_| {
                assert!(before.all().is_empty());
                Ok(())
            });
            Ok::<_, Error>(heard.all())
        });
        assert!(done.await.expect("committed").value.is_empty());
        assert_eq!(heard.all(), ["AfterCompletion"]);
    }

    /// An after-completion listener also runs, once, when the unit rolls back.
    async fn tx_04_after_completion_runs_once_after_a_rollback(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::AfterCompletion)).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            assert!(heard.all().is_empty());
            tx.set_rollback_only("it was not meant");
            Ok::<_, Error>(())
        });
        ended.await.expect_err("rolled back");
        assert_eq!(heard.all(), ["AfterCompletion"]);
    }

    /// After a commit, only the after-commit listener of the pair runs.
    async fn tx_05_commit_runs_after_commit_and_not_after_rollback(home: &dyn Home) {
        let heard = Heard::default();
        let pair = heard.in_phases::<Rang>(&[Phase::AfterCommit, Phase::AfterRollback]);
        let bus = bus_on(home).listeners(pair).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        assert_eq!(heard.all(), ["AfterCommit"]);
    }

    /// A unit marked rollback-only runs the after-rollback listener only, and says why it did not commit.
    async fn tx_06_rollback_only_runs_after_rollback_and_not_after_commit(home: &dyn Home) {
        let heard = Heard::default();
        let pair = heard.in_phases::<Rang>(&[Phase::AfterCommit, Phase::AfterRollback]);
        let bus = bus_on(home).listeners(pair).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            tx.set_rollback_only("second thoughts");
            Ok::<_, Error>(())
        });
        let error = ended.await.expect_err("rolled back");
        assert_eq!(error.to_string(), "the unit of work was rolled back: second thoughts");
        assert_eq!(heard.all(), ["AfterRollback"]);
    }

    /// A closure that answers `Err` rolls back too.
    async fn tx_06_an_error_of_the_closure_rolls_back(home: &dyn Home) {
        let heard = Heard::default();
        let pair = heard.in_phases::<Rang>(&[Phase::AfterCommit, Phase::AfterRollback]);
        let bus = bus_on(home).listeners(pair).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| -> Result<(), BoxError> {
            ROWS.put(tx, &1, &"one".to_owned())?;
            tx.publish(Rang(1))?;
            Err(No.into())
        });
        assert!(ended.await.expect_err("its own error").is::<No>());
        assert_eq!(heard.all(), ["AfterRollback"]);
        assert_eq!(row(&bus, 1), None);
    }

    /// Background immediate listeners do not take the after-phases with them: the after-rollback listener has run when the
    /// transaction call returns. The peer sets an executor for a whole bus; here each listener says `spawn`.
    async fn tx_07_after_rollback_completes_with_the_call_though_immediate_runs_in_the_background(home: &dyn Home) {
        let heard = Heard::default();
        let immediate = listener::on::<Rang>("background")
            .phase(Phase::Immediate)
            .spawn()
            .cloning()
            .call_async(yielding(heard.noting("background")));
        let bus = bus_on(home)
            .listener(immediate)
            .listener(heard.in_phase::<Rang>(Phase::AfterRollback))
            .start()
            .await
            .expect("a bus");
        let ended = bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            tx.set_rollback_only("no");
            Ok::<_, Error>(())
        });
        ended.await.expect_err("rolled back");
        assert_eq!(heard.count("AfterRollback"), 1);
        bus.idle().await;
        assert_eq!(heard.count("background"), 1);
    }

    /// Raw hooks and listeners share one order: the hook at 10 sees no delivery, the one at 20 sees one.
    async fn tx_08_hooks_and_listeners_share_one_order(home: &dyn Home) {
        let heard = Heard::default();
        let between = listener::on::<Rang>("between").phase(Phase::BeforeCommit).order(15).call(heard.noting("listener"));
        let bus = bus_on(home).listener(between).start().await.expect("a bus");
        bus.transaction(async |tx| {
            for order in [20, 10] {
                let heard = heard.clone();
                tx.before_commit(order, move |_| {
                    heard.note(format!("hook {order} sees {}", heard.count("listener")));
                    Ok(())
                });
            }
            tx.publish(Rang(1))
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["hook 10 sees 0", "listener", "hook 20 sees 1"]);
    }

    /// A before-commit hook that fails ends the unit: later before-commit listeners do not run, nothing is stored.
    async fn tx_09_failing_before_commit_hook_rolls_back_and_stops_later_listeners(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(heard.in_phases::<Rang>(&BOUND)).start().await.expect("a bus");
        let ended = bus.transaction(async |tx| {
            ROWS.put(tx, &1, &"one".to_owned())?;
            tx.before_commit(1, |_| Err(No.into()));
            tx.publish(Rang(1))
        });
        assert_eq!(ended.await.expect_err("the hook said no").listener_cause(), Some(&No));
        assert_eq!(heard.all(), ["AfterRollback", "AfterCompletion"]);
        assert_eq!(row(&bus, 1), None);
    }

    /// In a unit that commits, immediate, before-commit and after-commit listeners run once each, in that order.
    async fn tx_10_phases_of_a_commit_come_in_order(home: &dyn Home) {
        let heard = Heard::default();
        let phases = [Phase::AfterRollback, Phase::AfterCommit, Phase::BeforeCommit, Phase::Immediate];
        let bus = bus_on(home).listeners(heard.in_phases::<Rang>(&phases)).start().await.expect("a bus");
        bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            assert_eq!(heard.all(), ["Immediate"]);
            let heard = heard.clone();
            // Without an order it comes last of its round.
            tx.before_commit(None, move |_| {
                assert_eq!(heard.all(), ["Immediate", "BeforeCommit"]);
                Ok(())
            });
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["Immediate", "BeforeCommit", "AfterCommit"]);
    }

    /// Without a unit of work, publishing an event that phase-bound listeners wait for is an error that names them, before
    /// anybody is called. The peer drops the event silently.
    async fn tx_11_publishing_without_a_unit_is_an_error_that_names_the_listeners(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listeners(heard.in_phases::<Rang>(&BOUND))
            .listener(heard.in_phase::<Rang>(Phase::Immediate))
            .start()
            .await
            .expect("a bus");
        let Err(Error::Publish(PublishError::NeedsUnit { listeners, .. })) = bus.publish(&Rang(1)) else {
            panic!("published into nowhere")
        };
        assert_eq!(listeners, ["test.BeforeCommit", "test.AfterCommit", "test.AfterRollback", "test.AfterCompletion"]);
        assert!(matches!(bus.publish_all(&[Rang(1)]), Err(Error::Publish(PublishError::NeedsUnit { .. }))));
        assert!(heard.all().is_empty());
    }

    /// A scope that joins the unit runs nothing when it returns; each listener runs once, when the outer unit ends.
    async fn tx_14_joined_scope_runs_listeners_once_at_the_outer_end(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listeners(heard.in_phases::<Rang>(&BOUND)).start().await.expect("a bus");
        bus.transaction(async |tx| {
            tx.nested(async |tx| tx.publish(Rang(1))).await?;
            assert!(heard.all().is_empty());
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["BeforeCommit", "AfterCommit", "AfterCompletion"]);
    }

    /// Listeners that said `without_tx = run` run at once where there is no unit, in the order of their phases, that for a
    /// rollback too; about the latter the bus warns at start.
    async fn tx_16_listeners_that_opted_in_run_at_once_without_a_unit(home: &dyn Home) {
        let (heard, told) = (Heard::default(), Recorder::new());
        let warned = Heard::default();
        let note = warned.clone();
        let opted = BOUND.map(|phase| {
            let id = format!("test.{phase}");
            listener::on::<Rang>(id).phase(phase).without_tx(WithoutTx::Run).call(heard.noting(phase.name()))
        });
        let bus = bus_on(home)
            .listeners(opted)
            .observer(told.clone())
            .observer(move |notice: &Notice<'_>| {
                if let Notice::Warning(Warning::RollbackWithoutUnit { listener }) = notice {
                    note.note(listener.clone());
                }
            })
            .start()
            .await
            .expect("a bus");
        bus.publish(&Rang(1)).expect("published");
        assert_eq!(heard.take(), ["BeforeCommit", "AfterCommit", "AfterRollback", "AfterCompletion"]);
        assert_eq!(warned.all(), ["test.AfterRollback"]);
        assert_eq!(told.notices().len(), 1, "{:?}", told.notices());
        bus.transaction(async |tx| tx.publish(Rang(2))).await.expect("committed");
        assert_eq!(heard.all(), ["BeforeCommit", "AfterCommit", "AfterCompletion"], "in a unit they keep to their phase");
    }

    /// A phase-bound listener never becomes an immediate one. The peer's case has transactions not set up at all and drops the
    /// event; a bus always has units of work, so that what remains of it is the refusal of TX-11, for each phase alone.
    async fn tx_17_a_phase_bound_listener_never_becomes_an_immediate_one(home: &dyn Home) {
        for phase in BOUND {
            let heard = Heard::default();
            let bus = bus_on(home).listener(heard.in_phase::<Rang>(phase)).start().await.expect("a bus");
            assert!(matches!(bus.publish(&Rang(1)), Err(Error::Publish(PublishError::NeedsUnit { .. }))), "{phase}");
            assert!(heard.all().is_empty(), "{phase}");
        }
    }

    /// A listener whose condition is false for the event does not run.
    async fn tx_18_condition_decides_whether_a_phase_listener_runs(home: &dyn Home) {
        let heard = Heard::default();
        let conditional = BOUND.map(|phase| {
            let id = format!("test.{phase}");
            let heard = heard.clone();
            let note = move |event: &Rang| heard.note(format!("{phase} {}", event.0));
            listener::on::<Rang>(id).phase(phase).when(|event| event.0 > 1).call(note)
        });
        let bus = bus_on(home).listeners(conditional).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        assert!(heard.all().is_empty());
        bus.transaction(async |tx| tx.publish(Rang(2))).await.expect("committed");
        assert_eq!(heard.all(), ["BeforeCommit 2", "AfterCommit 2", "AfterCompletion 2"]);
    }

    /// What several listeners have in common is a function that returns a declaration: it behaves as the form written out.
    /// The peer bundles phase and condition in an annotation of annotations; Rust has functions for that.
    async fn tx_19_a_preset_behaves_as_the_form_written_out(home: &dyn Home) {
        fn receipts(id: &str) -> Declaration<Rang> {
            listener::on(id).phase(Phase::AfterCommit).order(10).when(|event: &Rang| event.0 > 1)
        }
        let heard = Heard::default();
        let by_preset: Registration = receipts("preset").call(heard.noting("preset"));
        let written_out = listener::on::<Rang>("written out")
            .phase(Phase::AfterCommit)
            .order(10)
            .when(|event| event.0 > 1)
            .call(heard.noting("written out"));
        let (left, right) = (by_preset.descriptor(), written_out.descriptor());
        assert_eq!((left.phase, left.order, left.conditional), (right.phase, right.order, right.conditional));
        let bus = bus_on(home).listeners([by_preset, written_out]).start().await.expect("a bus");
        for number in [1, 2] {
            bus.transaction(async |tx| tx.publish(Rang(number))).await.expect("committed");
        }
        assert_eq!(heard.all(), ["preset", "written out"]);
    }

    /// The unit is handed along as a value and lives in no thread: across suspension, from task to task's thread, in helpers
    /// that are lent it, all phases keep their rules, with asynchronous listeners too.
    async fn tx_20_phases_hold_for_a_unit_that_wanders_between_threads(home: &dyn Home) {
        async fn helper(tx: &mut Tx, number: u32) -> Result<(), Error> {
            tokio::task::yield_now().await;
            tx.publish(Rang(number))?;
            tokio::task::yield_now().await;
            Ok(())
        }
        let heard = Heard::default();
        let awaited = BOUND.map(|phase| {
            listener::on::<Rang>(format!("test.{phase}")).phase(phase).call_async(yielding(heard.noting(phase.name())))
        });
        let bus = bus_on(home)
            .listeners(awaited)
            .listener(heard.in_phase::<Rang>(Phase::Immediate))
            .start()
            .await
            .expect("a bus");
        for (fails, expected) in [
            (false, ["Immediate", "BeforeCommit", "AfterCommit", "AfterCompletion"].as_slice()),
            (true, ["Immediate", "AfterRollback", "AfterCompletion"].as_slice()),
        ] {
            let on_the_side = bus.clone();
            let task = tokio::spawn(async move {
                on_the_side
                    .transaction(async |tx| {
                        helper(tx, 1).await?;
                        if fails { Err::<(), BoxError>(No.into()) } else { Ok(()) }
                    })
                    .await
                    .is_ok()
            });
            assert_eq!(task.await.expect("no panic"), !fails);
            assert_eq!(heard.take(), expected);
        }
    }

    /// Around each call an interceptor gets the event before, and after it with the error if there was one. The peer registers
    /// callbacks with one listener; here they are registered with the bus and told whose call it is.
    async fn tx_21_interceptors_see_the_event_before_and_after_the_call(home: &dyn Home) {
        struct Around(Heard);
        impl Interceptor for Around {
            fn before(&self, listener: &str, event: &dyn std::any::Any) {
                let number = event.downcast_ref::<Rang>().expect("the event").0;
                self.0.note(format!("before {listener} with {number}"));
            }

            fn after(&self, listener: &str, event: &dyn std::any::Any, error: Option<&(dyn std::error::Error + 'static)>) {
                let number = event.downcast_ref::<Rang>().expect("the event").0;
                let error = error.map_or_else(|| "none".to_owned(), ToString::to_string);
                self.0.note(format!("after {listener} with {number}, error: {error}"));
            }
        }
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("a").order(1).call(heard.noting("called")))
            .listener(listener::on::<Rang>("b").order(2).call(|_| Err::<(), _>(No)))
            .interceptor(Around(heard.clone()))
            .start()
            .await
            .expect("a bus");
        let done = bus.transaction(async |tx| tx.publish(Rang(7))).await.expect("committed");
        assert_eq!(done.after_errors.len(), 1);
        assert_eq!(
            heard.all(),
            ["before a with 7", "called", "after a with 7, error: none", "before b with 7", "after b with 7, error: no"]
        );
    }

    /// A listener without a phase runs after the commit.
    async fn tx_24_a_listener_without_a_phase_runs_after_the_commit(home: &dyn Home) {
        let heard = Heard::default();
        let plain = listener::on::<Rang>("plain").call(heard.noting("plain"));
        assert_eq!(plain.descriptor().phase, Phase::AfterCommit);
        let bus = bus_on(home).listener(plain).start().await.expect("a bus");
        bus.transaction(async |tx| {
            tx.publish(Rang(1))?;
            let heard = heard.clone();
            tx.before_commit(None, move |_| {
                heard.note("before");
                Ok(())
            });
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["before", "plain"]);
    }

    /// A listener accepts one event type, that of its parameter. The peer lets one name several; here the function is declared
    /// once per type, under an id of its own, and keeps its phase. (`#[listener]` on a function of two events does not compile.)
    async fn tx_25_several_event_types_are_several_declarations(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("both.rang").phase(Phase::BeforeCommit).call(heard.noting("rang")))
            .listener(listener::on::<Placed>("both.placed").phase(Phase::BeforeCommit).call(heard.noting("placed")))
            .start()
            .await
            .expect("a bus");
        bus.transaction(async |tx| {
            tx.publish(Placed(1))?;
            tx.publish(Rang(1))?;
            assert!(heard.all().is_empty());
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        assert_eq!(heard.all(), ["placed", "rang"]);
        let refused = Bus::builder()
            .listener(listener::on::<Rang>("both").call(|_| ()))
            .listener(listener::on::<Placed>("both").call(|_| ()))
            .start()
            .await;
        assert!(matches!(refused, Err(StartError::DuplicateId { id, .. }) if id == "both"));
    }

    /// After the commit a listener may begin a unit of work of its own, by a `Bus`, or work in none; either way the finished
    /// one is out of its reach.
    async fn tx_26_an_after_commit_listener_begins_a_unit_of_its_own(home: &dyn Home) {
        let heard = Heard::default();
        let note = heard.clone();
        let own = listener::on::<Rang>("own").call_async(move |event: &Rang, mut call| {
            let (bus, number, note) = (call.take::<Bus>(), event.0, note.clone());
            CallFuture::from_or_box(async move {
                bus?.transaction(async |tx| {
                    let before = ROWS.get(tx, &number)?.unwrap_or_default();
                    note.note(format!("sees {before}"));
                    ROWS.put(tx, &number, &format!("{before} and more"))
                })
                .await?;
                Ok(None)
            })
        });
        let bus = bus_on(home).listener(own).start().await.expect("a bus");
        let done = bus.transaction(async |tx| {
            ROWS.put(tx, &1, &"one".to_owned())?;
            tx.publish(Rang(1))
        });
        assert!(done.await.expect("committed").after_errors.is_empty());
        assert_eq!(heard.all(), ["sees one"]);
        assert_eq!(row(&bus, 1).as_deref(), Some("one and more"));
    }
}

/// The path of its function is the id of a listener that declares none, an id that is declared is used as it stands. A
/// durable listener must declare one, as its progress is stored under it: without, `#[listener]` does not compile and
/// `listener::on` cannot be written. The peer derives an id in both cases.
#[test]
fn tx_23_id_is_the_path_unless_declared() {
    #[aftercommit::listener]
    fn unnamed(_event: &Rang) {}
    #[aftercommit::listener(id = "test.named")]
    fn named(_event: &Rang) {}
    let ids: Vec<String> =
        listed![unnamed, named].iter().map(|registration| registration.descriptor().id.clone()).collect();
    assert_eq!(ids, [concat!(module_path!(), "::unnamed"), "test.named"]);
    assert_eq!(listener::on::<Rang>("by hand").call(|_| ()).descriptor().id, "by hand");
}

/// A listener that asks for the unit of work is refused at start where that has ended, or where it cannot follow; by the
/// macro already when compiled. The peer asks about propagation by annotations of method and class; a parameter says it here.
#[tokio::test]
async fn tx_26_asking_for_the_finished_unit_is_refused_at_start() {
    async fn refusal(registration: Registration) -> Option<String> {
        match Bus::builder().listener(registration).start().await {
            Ok(_) => None,
            Err(StartError::Listener { listener, reason }) => {
                assert_eq!(listener, "asks");
                Some(reason)
            }
            Err(other) => panic!("another error: {other}"),
        }
    }
    let asks = || listener::on::<Rang>("asks").takes_tx();
    for phase in [Phase::AfterCommit, Phase::AfterRollback, Phase::AfterCompletion] {
        let reason = refusal(asks().phase(phase).call(|_| ())).await.expect("refused");
        assert!(reason.starts_with("the unit of work has ended when it runs"), "{phase}: {reason}");
    }
    assert_eq!(refusal(asks().phase(Phase::Immediate).call(|_| ())).await, None);
    assert_eq!(refusal(asks().phase(Phase::BeforeCommit).call(|_| ())).await, None);
    let waits = asks().phase(Phase::BeforeCommit).call_async(yielding(|_: &Rang| ()));
    assert_eq!(refusal(waits).await, None);
    let durable = listener::on::<Placed>("asks").durable().takes_tx().call(|_| ());
    assert_eq!(refusal(durable).await, None, "it has a unit of work of its own");
    let new = listener::on::<Rang>("asks").needs::<Bus>().call_async(yielding(|_: &Rang| ()));
    assert_eq!(refusal(new).await, None);
    let background = asks().phase(Phase::Immediate).spawn().cloning().call_async(yielding(|_: &Rang| ()));
    let reason = refusal(background).await.expect("refused");
    assert!(reason.starts_with("a `tx` cannot leave its unit of work"), "{reason}");
}

/// Sharing an `Arc` of the record proves that hooks are `Send` and owned, as TX-20 needs.
#[test]
fn tx_20_a_unit_of_work_can_be_awaited_in_a_spawned_task() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    runtime.block_on(async {
        let bus = Bus::builder().start().await.expect("a bus");
        let borrowed = Arc::new(1);
        let unit = is_send(bus.transaction(async |tx| {
            let held = &borrowed;
            tokio::task::yield_now().await;
            ROWS.put(tx, &**held, &"one".to_owned())
        }));
        unit.await.expect("committed");
    });
}
