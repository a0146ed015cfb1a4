//! What a unit of work promises: isolation, locks, limits, and how it ends when its surroundings end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::error::{BoxError, LockError, PublishError, UnitError};
use aftercommit::event::{Event, Stored, StoredEvent};
use aftercommit::listener;
use aftercommit::observe::Notice;
use aftercommit::prelude::*;
use aftercommit::testing::{MovedClock, Recorder};
use aftercommit::transaction::{CallFuture, Limits};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::scene::{DONE, Heard, No, Placed, ROWS, Rang, bus_on, counting, done, row, yielding};

/// Units left; never below 0.
const STOCK: Counters<u32> = Counters::new("test.stock").floor(0);

const LONG: Duration = Duration::from_secs(60);

async fn start(home: &dyn crate::stores::Home) -> Bus {
    bus_on(home).start().await.expect("a bus")
}

async fn put(bus: &Bus, key: u32, value: &str) {
    bus.transaction(async |tx| ROWS.put(tx, &key, &value.to_owned())).await.expect("committed");
}

fn is_conflict<T>(ended: &Result<T, Error>) -> bool {
    ended.as_ref().is_err_and(Error::is_conflict)
}

on_every_store! {
    /// A unit reads its own writes, points, ranges and cells alike; nobody else does before the commit.
    async fn a_unit_reads_its_own_writes_and_nobody_else_does(home: &dyn Home) {
        let bus = start(home).await;
        for key in [1, 3, 5] {
            put(&bus, key, "stored").await;
        }
        bus.transaction(async |tx| {
            ROWS.put(tx, &2, &"own".to_owned())?;
            ROWS.put(tx, &3, &"own".to_owned())?;
            ROWS.remove(tx, &5)?;
            DONE.add(tx, &1, 4)?;
            DONE.add(tx, &1, -1)?;
            assert_eq!(ROWS.get(tx, &2)?.as_deref(), Some("own"));
            assert_eq!(ROWS.get(tx, &5)?, None);
            assert_eq!(DONE.get(tx, &1)?, 3);
            let all: Vec<(u32, String)> = ROWS.iter(tx).collect::<Result<_, _>>()?;
            let seen: Vec<(u32, &str)> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
            assert_eq!(seen, [(1, "stored"), (2, "own"), (3, "own")]);
            let back: Vec<u32> = ROWS.range(tx, 2..).rev().map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
            assert_eq!(back, [3, 2]);
            assert_eq!((row(&bus, 2), row(&bus, 3).as_deref(), done(&bus, 1)), (None, Some("stored"), 0));
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        assert_eq!([1, 2, 3, 5].map(|key| row(&bus, key)), [Some("stored"), Some("own"), Some("own"), None].map(|one| one.map(str::to_owned)));
        assert_eq!(done(&bus, 1), 3);
    }

    /// A floor is told at the commit, with the cell as it was; nothing of the unit is stored, and trying again is in vain, so
    /// that it is not tried.
    async fn a_broken_floor_is_told_at_the_commit_and_never_retried(home: &dyn Home) {
        let bus = start(home).await;
        bus.transaction(async |tx| STOCK.add(tx, &1, 5)).await.expect("committed");
        let attempts = AtomicU32::new(0);
        let ended = bus.transaction_retrying(10, async |tx| {
            attempts.fetch_add(1, Ordering::SeqCst);
            ROWS.put(tx, &1, &"sold".to_owned())?;
            STOCK.add(tx, &1, -4)?;
            STOCK.add(tx, &1, -3)
        });
        let Err(error @ Error::Unit(UnitError::BelowFloor { value: 5, delta: -7, floor: 0, .. })) = ended.await else {
            panic!("sold what is not there")
        };
        assert!(!error.is_transient() && !error.is_conflict());
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
        assert_eq!(row(&bus, 1), None);
        assert_eq!(STOCK.get(&mut bus.reader().expect("a reader"), &1).expect("a cell"), 5);
    }

    /// Only where the cell ends counts.
    async fn a_cell_may_dip_below_its_floor_within_a_unit(home: &dyn Home) {
        let bus = start(home).await;
        bus.transaction(async |tx| {
            STOCK.add(tx, &1, -4)?;
            STOCK.add(tx, &1, 6)
        })
        .await
        .expect("it ends at 2");
        assert_eq!(STOCK.get(&mut bus.reader().expect("a reader"), &1).expect("a cell"), 2);
    }

    /// What is committed is there after the store was closed and opened again, durable debt included.
    async fn what_is_committed_survives_the_bus(home: &dyn Home) {
        let bus = start(home).await;
        bus.register(counting("counting")).await.expect("registered");
        assert!(bus.unregister("counting"));
        put(&bus, 1, "kept").await;
        bus.shutdown(LONG).await.expect("in good order");
        let bus = bus_on(home).listener(counting("counting")).start().await.expect("a bus");
        assert_eq!(row(&bus, 1).as_deref(), Some("kept"));
        bus.transaction(async |tx| tx.publish(Placed(1))).await.expect("committed");
        bus.idle().await;
        drop(bus);
        let bus = bus_on(home).listener(counting("counting")).start().await.expect("a bus");
        bus.idle().await;
        assert_eq!(done(&bus, 1), 1);
    }

    /// A lock taken twice is held once; it is free again when the unit has ended, whichever way.
    async fn a_lock_is_reentrant_and_ends_with_its_unit(home: &dyn Home) {
        let bus = start(home).await;
        for fails in [false, true] {
            let ended = bus.transaction(async |tx| {
                tx.lock(7u32).await?;
                tx.lock(7u32).await?;
                tx.nested(async |tx| tx.lock(7u32).await).await?;
                tx.lock(8u32).await?;
                assert_eq!(bus.locked_keys(), 2);
                if fails { Err::<(), BoxError>(No.into()) } else { Ok(()) }
            });
            assert_eq!(ended.await.is_err(), fails);
            assert_eq!(bus.locked_keys(), 0);
        }
    }

    /// Locks are given back once the outcome is durable and before the after-phases: an after-commit listener can take the
    /// same lock in a unit of its own, and sees what was committed under it.
    async fn locks_are_released_after_the_commit_and_before_the_after_phases(home: &dyn Home) {
        let heard = Heard::default();
        let note = heard.clone();
        let again = listener::on::<Rang>("again").call_async(move |_, mut call| {
            let (bus, note) = (call.take::<Bus>(), note.clone());
            CallFuture::from_or_box(async move {
                let bus = bus?;
                note.note(format!("{} locked", bus.locked_keys()));
                bus.transaction(async |tx| {
                    tx.lock_within(7u32, Duration::ZERO).await?;
                    note.note(ROWS.get(tx, &7)?.unwrap_or_default());
                    Ok::<_, Error>(())
                })
                .await?;
                Ok(None)
            })
        });
        let bus = bus_on(home).listener(again).start().await.expect("a bus");
        let done = bus.transaction(async |tx| {
            tx.lock(7u32).await?;
            ROWS.put(tx, &7, &"stored under the lock".to_owned())?;
            let (heard, bus) = (heard.clone(), bus.clone());
            tx.before_commit(None, move |_| {
                heard.note(format!("{} locked before", bus.locked_keys()));
                Ok(())
            });
            tx.publish(Rang(1))
        });
        assert!(done.await.expect("committed").after_errors.is_empty());
        assert_eq!(heard.all(), ["1 locked before", "0 locked", "stored under the lock"]);
    }

    /// An event whose stored form is larger than allowed is refused where it is published.
    async fn an_event_too_large_is_refused_at_publish(home: &dyn Home) {
        let limits = Limits { event_bytes: 300, ..Limits::default() };
        let bus = bus_on(home).limits(limits).listener(long("long")).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Long("x".repeat(100)))).await.expect("committed");
        let ended = bus.transaction(async |tx| tx.publish(Long("x".repeat(1000))));
        let Err(Error::Publish(PublishError::TooLarge { bytes, limit: 300, .. })) = ended.await else {
            panic!("published")
        };
        assert!(bytes > 1000);
    }

    /// Events that wait for their commit count towards the size of a unit.
    async fn a_unit_of_too_many_events_is_refused(home: &dyn Home) {
        let limits = Limits { unit_bytes: 1000, ..Limits::default() };
        let bus = bus_on(home).limits(limits).listener(long("long")).start().await.expect("a bus");
        let published = AtomicU32::new(0);
        let ended = bus.transaction(async |tx| {
            for _ in 0..100 {
                tx.publish(Long("x".repeat(100)))?;
                published.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<_, Error>(())
        });
        assert!(matches!(ended.await, Err(Error::Unit(UnitError::TooLarge { limit: 1000, .. }))));
        assert!((2..10).contains(&published.load(Ordering::SeqCst)), "{published:?}");
    }

    /// Before-commit listeners that publish to each other without end are stopped, and the error names the cycle.
    async fn endless_before_commit_names_the_cycle(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("ping").phase(Phase::BeforeCommit).call(|event| Publish(Placed(event.0))))
            .listener(listener::on::<Placed>("pong").phase(Phase::BeforeCommit).call(|event| Publish(Rang(event.0))))
            .listener(heard.in_phase::<Rang>(Phase::AfterRollback))
            .start()
            .await
            .expect("a bus");
        let ended = bus.transaction(async |tx| tx.publish(Rang(1)));
        let Err(Error::Unit(UnitError::Endless { depth: 32, cycle })) = ended.await else { panic!("it ended") };
        for name in [Rang::name(), Placed::name()] {
            assert!(cycle.iter().any(|one| one == name), "{cycle:?}");
        }
        assert!(cycle.len() <= 8, "{cycle:?}");
        // The first, and one in every second of 32 rounds.
        assert_eq!(heard.all().len(), 17);
    }

    /// Immediate replies without end are stopped, inside a unit and outside.
    async fn endless_immediate_replies_name_the_cycle(home: &dyn Home) {
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("again").phase(Phase::Immediate).call(|event| Publish(event.clone())))
            .start()
            .await
            .expect("a bus");
        let inside = bus.transaction(async |tx| tx.publish(Rang(1))).await.map(|_| ());
        for ended in [inside, bus.publish(&Rang(1))] {
            let Err(Error::Publish(PublishError::TooDeep { depth: 32, cycle })) = ended else { panic!("it ended") };
            assert!(cycle.iter().all(|name| name == Rang::name()) && !cycle.is_empty());
        }
    }

    /// After-commit replies without end are stopped too: each is a unit of its own, the last is refused and told.
    async fn endless_after_commit_replies_are_stopped(home: &dyn Home) {
        let (heard, told) = (Heard::default(), Recorder::new());
        let note = heard.clone();
        let again = listener::on::<Rang>("again").call(move |event: &Rang| {
            note.note("called");
            Publish(event.clone())
        });
        let bus = bus_on(home).listener(again).observer(told.clone()).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        bus.idle().await;
        assert_eq!(heard.all().len(), 32);
        assert_eq!((bus.counts().after_errors, told.notices().len()), (1, 1), "{:?}", told.notices());
        assert!(told.notices()[0].contains("TooDeep"), "{:?}", told.notices());
    }

    /// So are those of spawned listeners.
    async fn endless_spawned_replies_are_stopped(home: &dyn Home) {
        let (heard, told) = (Heard::default(), Recorder::new());
        let note = heard.clone();
        let again = listener::on::<Rang>("again").spawn().call_async(move |event: &Rang, _| {
            note.note("called");
            let reply = Publish(event.clone());
            CallFuture::from_or_box(async move { aftercommit::listener::IntoAnswer::into_answer(reply) })
        });
        let bus = bus_on(home).listener(again).observer(told.clone()).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
        bus.idle().await;
        assert_eq!(heard.all().len(), 32);
        assert!(told.notices().iter().any(|notice| notice.contains("TooDeep")), "{:?}", told.notices());
    }

    /// A reply descends from the event it answers, also where it is published in a unit of its own.
    async fn replies_descend_from_what_they_answer(home: &dyn Home) {
        for phase in [Phase::Immediate, Phase::BeforeCommit, Phase::AfterCommit, Phase::AfterCompletion] {
            let heard = Heard::default();
            let (first, second) = (heard.clone(), heard.clone());
            let bus = bus_on(home)
                .listener(listener::on::<Rang>("asks").phase(phase).call_with(move |_, call| {
                    let metadata = call.metadata();
                    first.note(format!("{} of {}", metadata.id, metadata.correlation));
                    Publish(Placed(1))
                }))
                .listener(listener::on::<Placed>("answer").call_with(move |_, call| {
                    let metadata = call.metadata();
                    let cause = metadata.causation.map(|cause| cause.to_string()).unwrap_or_default();
                    second.note(format!("{cause} of {}", metadata.correlation));
                }))
                .start()
                .await
                .expect("a bus");
            bus.transaction(async |tx| tx.publish(Rang(1))).await.expect("committed");
            let heard = heard.all();
            assert_eq!(heard.len(), 2, "{phase}");
            assert_eq!(heard[0], heard[1], "{phase}");
        }
    }

    /// A thread without a runtime, and the blocking pool, can run units of work; a thread that drives tasks is refused.
    async fn blocking_units_run_where_blocking_is_allowed(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::AfterCommit)).start().await.expect("a bus");
        let work = |bus: Bus, key: u32| {
            move || {
                bus.transaction_blocking(|tx| {
                    tx.publish(Rang(key))?;
                    ROWS.put(tx, &key, &"blocking".to_owned())
                })
                .map(|_| ())
            }
        };
        std::thread::spawn(work(bus.clone(), 1)).join().expect("no panic").expect("committed from a plain thread");
        tokio::task::spawn_blocking(work(bus.clone(), 2)).await.expect("no panic").expect("committed from the pool");
        let inside = work(bus.clone(), 3);
        let refused = tokio::spawn(async move { inside() }).await.expect("no panic");
        assert!(matches!(refused, Err(Error::Unit(UnitError::InsideRuntime))));
        let refused = work(bus.clone(), 4)();
        assert!(matches!(refused, Err(Error::Unit(UnitError::InsideRuntime))));
        assert_eq!([1, 2, 3, 4].map(|key| row(&bus, key).is_some()), [true, true, false, false]);
        assert_eq!(heard.all().len(), 2);
    }

    /// A bus that shuts down begins no units and publishes nothing, but lets those that run end, their publishing included.
    async fn shutdown_refuses_new_units_and_waits_for_those_that_run(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home).listener(heard.in_phase::<Rang>(Phase::AfterCommit)).start().await.expect("a bus");
        let (begun, begins) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel::<()>();
        let running = tokio::spawn({
            let bus = bus.clone();
            async move {
                bus.transaction(async |tx| {
                    begun.send(()).expect("the test waits");
                    goes_on.await.expect("the test goes on");
                    ROWS.put(tx, &1, &"late".to_owned())?;
                    tx.publish(Rang(1))
                })
                .await
            }
        });
        begins.await.expect("it begins");
        let ending = tokio::spawn({
            let bus = bus.clone();
            async move { bus.shutdown(LONG).await }
        });
        let refused = loop {
            // Until the shutdown has been taken in, nothing can be begun to ask by on a store with one transaction at a time.
            if let Err(refused) = bus.publish(&Placed(1)) {
                break refused;
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(refused, Error::Publish(PublishError::ShuttingDown { .. })));
        let refused = bus.transaction(async |_| Ok::<_, Error>(())).await;
        assert!(matches!(refused, Err(Error::Unit(UnitError::ShuttingDown))));
        let refused = bus.transaction_retrying(3, async |_| Ok::<_, Error>(())).await;
        assert!(matches!(refused, Err(Error::Unit(UnitError::ShuttingDown))));
        assert!(!ending.is_finished());
        go_on.send(()).expect("the unit waits");
        running.await.expect("no panic").expect("committed");
        ending.await.expect("no panic").expect("in good order");
        assert_eq!(heard.all(), ["AfterCommit"]);
        assert_eq!(row(&start(home).await, 1).as_deref(), Some("late"));
    }

    /// A bus whose last handle is dropped lets what was begun end, delivers nothing more, and loses no debt.
    async fn a_bus_dropped_without_shutdown_owes_what_it_owed(home: &dyn Home) {
        let heard = Heard::default();
        let bus = bus_on(home)
            .listener(listener::on::<Rang>("background").spawn().call_async(yielding(heard.noting("background"))))
            .listener(counting("counting"))
            .start()
            .await
            .expect("a bus");
        let done_with = bus
            .transaction(async |tx| {
                tx.publish(Rang(1))?;
                tx.publish(Placed(1))
            })
            .await
            .expect("committed");
        drop(bus);
        assert!(done_with.settled().await.is_empty());
        assert_eq!(heard.all(), ["background"]);
        let bus = bus_on(home).listener(counting("counting")).start().await.expect("a bus");
        bus.idle().await;
        assert_eq!(done(&bus, 1), 1, "once, by the first bus or by the second");
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Long(String);

impl Event for Long {
    const STORED: Option<Stored<Self>> = Some(Stored::json("test.long"));
}

impl StoredEvent for Long {}

fn long(id: &str) -> aftercommit::listener::Registration {
    listener::on::<Long>(id).durable().call(|_| ())
}

on_embedded_stores! {
    /// Two units that read the same row and write what they made of it: the second to commit conflicts and stores nothing.
    async fn a_point_that_was_read_and_changed_is_a_conflict(home: &dyn Home) {
        let bus = start(home).await;
        put(&bus, 1, "first").await;
        let ended = bus.transaction(async |tx| {
            let seen = ROWS.get(tx, &1)?.unwrap_or_default();
            put(&bus, 1, "other").await;
            ROWS.put(tx, &2, &seen)
        });
        assert!(is_conflict(&ended.await));
        assert_eq!(row(&bus, 2), None);
        assert_eq!(bus.counts().conflicts, 1);
    }

    /// A row that was not there and came is a conflict too; writing without reading is none, nor is adding to a cell.
    async fn absence_is_read_too_and_blind_writes_never_conflict(home: &dyn Home) {
        let bus = start(home).await;
        let ended = bus.transaction(async |tx| {
            assert!(!ROWS.contains(tx, &1)?);
            put(&bus, 1, "came").await;
            ROWS.put(tx, &2, &"first".to_owned())
        });
        assert!(is_conflict(&ended.await));
        bus.transaction(async |tx| {
            ROWS.put(tx, &3, &"blind".to_owned())?;
            DONE.add(tx, &3, 1)?;
            put(&bus, 3, "other").await;
            bus.transaction(async |tx| DONE.add(tx, &3, 1)).await?;
            Ok::<_, Error>(())
        })
        .await
        .expect("the last to commit wins");
        assert_eq!((row(&bus, 3).as_deref(), done(&bus, 3)), (Some("blind"), 2));
    }

    /// A row that appears in a range that was read is a conflict; one beside it is none.
    async fn a_phantom_in_a_range_is_a_conflict_and_a_neighbour_is_none(home: &dyn Home) {
        let bus = start(home).await;
        for (lands, conflicts) in [(14, true), (20, false), (9, false), (10, true)] {
            let ended = bus.transaction(async |tx| {
                let count = ROWS.range(tx, 10..20).count();
                put(&bus, lands, "phantom").await;
                ROWS.put(tx, &99, &count.to_string())
            });
            assert_eq!(is_conflict(&ended.await), conflicts, "a row at {lands}");
        }
    }

    /// A unit that only read is checked as well, so that what it answers held at one moment.
    async fn a_unit_that_only_read_is_validated(home: &dyn Home) {
        let bus = start(home).await;
        let ended = bus.transaction(async |tx| {
            let left = ROWS.contains(tx, &1)?;
            bus.transaction(async |tx| {
                ROWS.put(tx, &1, &"both".to_owned())?;
                ROWS.put(tx, &2, &"both".to_owned())
            })
            .await?;
            Ok::<_, Error>((left, ROWS.contains(tx, &2)?))
        });
        assert!(is_conflict(&ended.await), "it saw one of two rows that came together");
    }

    /// A conflict runs the unit again until it goes through, or as often as was said.
    async fn retrying_runs_again_on_conflict_and_ends_with_the_last(home: &dyn Home) {
        let bus = start(home).await;
        for (disturbed, attempts, commits) in [(2, 3, true), (3, 3, false), (1, 1, false), (0, 0, true)] {
            let count = AtomicU32::new(0);
            let ended = bus.transaction_retrying(attempts, async |tx| {
                let runs = count.fetch_add(1, Ordering::SeqCst) + 1;
                ROWS.get(tx, &1)?;
                if runs <= disturbed {
                    put(&bus, 1, &runs.to_string()).await;
                }
                ROWS.put(tx, &2, &"done".to_owned())
            });
            let ended = ended.await;
            assert_eq!((ended.is_ok(), is_conflict(&ended)), (commits, !commits), "{disturbed} of {attempts}");
            assert_eq!(count.load(Ordering::SeqCst), (disturbed + 1).min(attempts.max(1)));
        }
    }

    /// An error of the closure is believed only if what it saw still stands.
    async fn retrying_does_not_believe_an_error_from_a_state_that_is_gone(home: &dyn Home) {
        let bus = start(home).await;
        let runs = AtomicU32::new(0);
        let ended = bus.transaction_retrying(5, async |tx| -> Result<(), BoxError> {
            runs.fetch_add(1, Ordering::SeqCst);
            if ROWS.contains(tx, &1)? {
                return Ok(());
            }
            put(&bus, 1, "came").await;
            Err(No.into())
        });
        ended.await.expect("the second run saw the row");
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        let ended = bus.transaction_retrying(5, async |tx| -> Result<(), BoxError> {
            ROWS.contains(tx, &1)?;
            Err(No.into())
        });
        assert!(ended.await.expect_err("its own error").is::<No>());
    }

    /// Units that read, think and write under one lock never conflict with each other, however many wait.
    async fn units_that_waited_for_a_lock_do_not_conflict_with_whom_they_waited_for(home: &dyn Home) {
        let bus = start(home).await;
        put(&bus, 1, "0").await;
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    bus.transaction(async |tx| {
                        tx.lock(1u32).await?;
                        let count: u32 = ROWS.get(tx, &1)?.and_then(|text| text.parse().ok()).unwrap_or_default();
                        tokio::task::yield_now().await;
                        ROWS.put(tx, &1, &(count + 1).to_string())
                    })
                    .await
                    .map(|_| ())
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("no conflict");
        }
        assert_eq!((row(&bus, 1).as_deref(), bus.counts().conflicts), (Some("20"), 0));
    }

    /// Who comes first is served first; who gives up leaves the queue.
    async fn locks_are_fair_and_time_out_with_the_key(home: &dyn Home) {
        let (heard, clock) = (Heard::default(), MovedClock::default());
        let bus = bus_on(home).clock(clock.clone()).lock_wait(Duration::from_secs(5)).start().await.expect("a bus");
        let (go_on, goes_on) = oneshot::channel::<()>();
        let (held, holds) = oneshot::channel();
        let holder = tokio::spawn({
            let bus = bus.clone();
            async move {
                bus.transaction(async |tx| {
                    tx.lock("bin".to_owned()).await?;
                    held.send(()).expect("the test waits");
                    goes_on.await.expect("the test goes on");
                    Ok::<_, Error>(())
                })
                .await
                .map(|_| ())
            }
        });
        holds.await.expect("it holds");
        let waiter = |name: &'static str, wait: u64| {
            let (bus, heard) = (bus.clone(), heard.clone());
            tokio::spawn(async move {
                bus.transaction(async |tx| {
                    tx.lock_within("bin".to_owned(), Duration::from_secs(wait)).await?;
                    heard.note(name);
                    Ok::<_, Error>(())
                })
                .await
                .map(|_| ())
            })
        };
        let mut waiters = Vec::new();
        for (count, (name, wait)) in [("a", 60), ("gives up", 5), ("b", 60), ("c", 60)].into_iter().enumerate() {
            waiters.push(waiter(name, wait));
            while clock.sleepers() <= count {
                tokio::task::yield_now().await;
            }
        }
        clock.advance(Duration::from_secs(5));
        let timed_out = waiters.remove(1).await.expect("no panic");
        let Err(error @ Error::Lock(LockError::Timeout { .. })) = timed_out else { panic!("it got the lock") };
        let text = error.to_string();
        assert!(text.starts_with(r#"lock `"bin"` was not free within 5s; it is held by [unit of work, "#), "{text}");
        assert!(error.is_transient());
        go_on.send(()).expect("it waits");
        holder.await.expect("no panic").expect("committed");
        for waiter in waiters {
            waiter.await.expect("no panic").expect("committed");
        }
        assert_eq!(heard.all(), ["a", "b", "c"]);
        assert_eq!(bus.locked_keys(), 0);
    }

    /// Rows that wait for their commit count towards the size of a unit, which overshoots by one row at most.
    async fn a_unit_of_too_many_rows_is_refused(home: &dyn Home) {
        let limits = Limits { unit_bytes: 10_000, ..Limits::default() };
        let bus = bus_on(home).limits(limits).start().await.expect("a bus");
        let written = AtomicU32::new(0);
        let ended = bus.transaction(async |tx| {
            for key in 0..1000 {
                ROWS.put(tx, &key, &"x".repeat(1000))?;
                written.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<_, Error>(())
        });
        assert!(matches!(ended.await, Err(Error::Unit(UnitError::TooLarge { limit: 10_000, .. }))));
        assert!((8..=10).contains(&written.load(Ordering::SeqCst)), "{written:?}");
        assert_eq!(row(&bus, 0), None);
    }
}

/// When the runtime a bus was started in ends first, the bus says so where it can: units still commit for whoever drives them,
/// what should have run in the background is told to the observer as abandoned.
#[test]
fn a_runtime_that_ends_first_leaves_a_bus_that_says_what_it_cannot_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let (heard, abandoned) = (Heard::default(), Heard::default());
    let note = abandoned.clone();
    let bus = runtime.block_on(async {
        Bus::builder()
            .listener(listener::on::<Rang>("background").spawn().call_async(yielding(heard.noting("background"))))
            .listener(heard.in_phase::<Rang>(Phase::AfterCommit))
            .listener(counting("counting"))
            .observer(move |notice: &Notice<'_>| {
                if let Notice::Abandoned { what } = notice {
                    note.note(*what);
                }
            })
            .start()
            .await
            .expect("a bus")
    });
    let mut left_open = Box::pin(bus.transaction(async |tx| {
        tx.publish(Rang(0))?;
        std::future::pending::<Result<(), Error>>().await
    }));
    runtime.block_on(async { assert!(futures::poll!(&mut left_open).is_pending()) });
    drop(runtime);
    drop(left_open);
    assert_eq!(abandoned.take(), ["the after-phases of a unit of work"]);
    let done_with = futures::executor::block_on(bus.transaction(async |tx| {
        ROWS.put(tx, &1, &"after the end".to_owned())?;
        tx.publish(Rang(1))?;
        tx.publish(Placed(1))
    }))
    .expect("committed");
    assert_eq!(done_with.after_errors.len(), 0);
    assert!(futures::executor::block_on(done_with.settled()).is_empty());
    assert_eq!((row(&bus, 1).as_deref(), heard.all()), (Some("after the end"), vec!["AfterCommit".to_owned()]));
    assert_eq!(abandoned.all(), ["background"]);
    // The durable listener's worker ended with the runtime: what it is owed stays owed, and nobody waits for it in vain.
    futures::executor::block_on(bus.idle());
    assert_eq!(done(&bus, 1), 0);
    let shared = Arc::new(bus);
    assert_eq!(shared.locked_keys(), 0);
}
