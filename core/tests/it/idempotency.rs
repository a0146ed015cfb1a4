//! Requests that run once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::bus::{Idempotency, Ran};
use aftercommit::error::IdempotencyError;
use aftercommit::prelude::*;
use aftercommit::testing::{FailingStore, MovedClock, Step};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::stores::Home;

const DAY: Duration = Duration::from_secs(86_400);
const MOMENT: Duration = Duration::from_millis(1);
const PAY: Idempotency = Idempotency::new("bank.pay", DAY);
const PAID: Counters<u32> = Counters::new("bank.paid");

#[derive(Debug, Serialize, Deserialize, PartialEq)]
enum PayError {
    Declined,
    Unreachable,
    Bus(String),
}

impl From<Error> for PayError {
    fn from(error: Error) -> Self {
        Self::Bus(error.to_string())
    }
}

async fn start(home: &dyn Home, clock: &MovedClock) -> Bus {
    Bus::builder().shared_store(home.open()).clock(clock.clone()).start().await.expect("the bus starts")
}

async fn stop(bus: Bus) {
    bus.shutdown(Duration::from_secs(5)).await.expect("the bus stops");
}

/// Counts a payment in the store, and answers which one it was.
async fn pay(bus: &Bus, request: &str, cents: u32) -> Result<Ran<i64>, Error> {
    let work = async |tx: &mut Tx| {
        PAID.add(tx, &0, 1)?;
        PAID.get(tx, &0)
    };
    // An id whose retention ends may be removed at the same moment.
    PAY.request(&request.to_owned(), &cents)?.transaction_retrying(bus, 10, work).await
}

fn paid(bus: &Bus) -> i64 {
    PAID.get(&mut bus.reader().expect("tables"), &0).expect("a read")
}

on_every_store! {
    async fn a_request_runs_once_across_restarts_until_its_retention_is_over(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = start(home, &clock).await;
        assert_eq!(pay(&bus, "a", 5).await.expect("paid"), Ran::Now(1));
        assert_eq!(pay(&bus, "a", 5).await.expect("paid"), Ran::Before(1));
        assert_eq!(pay(&bus, "b", 5).await.expect("paid"), Ran::Now(2));
        stop(bus).await;
        clock.advance(DAY - MOMENT);
        let bus = start(home, &clock).await;
        assert_eq!(pay(&bus, "a", 5).await.expect("paid"), Ran::Before(1));
        clock.advance(MOMENT);
        assert_eq!(pay(&bus, "a", 5).await.expect("paid"), Ran::Now(3), "it is over");
        assert_eq!((paid(&bus), bus.locked_keys()), (3, 0));
        stop(bus).await;
    }

    async fn another_body_under_the_same_request_is_an_error(home: &dyn Home) {
        let bus = start(home, &MovedClock::default()).await;
        pay(&bus, "a", 5).await.expect("paid");
        let other = pay(&bus, "a", 6).await;
        let Err(Error::Idempotency(error @ IdempotencyError::OtherBody { .. })) = other else { panic!("{other:?}") };
        assert_eq!(error.to_string(), "request \"a\" of `bank.pay` came before with another body");
        assert_eq!(pay(&bus, "a", 5).await.expect("paid"), Ran::Before(1));
        // The keys of a map have no order.
        let maps: Vec<std::collections::HashMap<u32, u32>> =
            (0..2).map(|turn| (0..50).map(|key| ((key + turn * 25) % 50, 1)).collect()).collect();
        for map in &maps {
            let request = PAY.request(&7_u32, map).expect("written");
            request.call(&bus, async || Ok::<_, Error>(1)).await.expect("the same body");
        }
        stop(bus).await;
    }

    async fn what_fails_is_not_stored_and_runs_again(home: &dyn Home) {
        let bus = start(home, &MovedClock::default()).await;
        let request = PAY.request(&1_u32, &()).expect("written");
        let failed = request.transaction(&bus, async |tx| {
            PAID.add(tx, &0, 1)?;
            Err::<u32, _>(PayError::Declined)
        });
        assert_eq!(failed.await, Err(PayError::Declined));
        let done = request.transaction(&bus, async |tx| PAID.add(tx, &0, 1));
        assert_eq!(done.await.expect("it may run again"), Ran::Now(()));
        assert_eq!(paid(&bus), 1);
        let request = PAY.request(&2_u32, &()).expect("written");
        assert_eq!(request.call(&bus, async || Err::<u32, _>(PayError::Unreachable)).await, Err(PayError::Unreachable));
        assert_eq!(request.call(&bus, async || Ok::<_, PayError>(7)).await, Ok(Ran::Now(7)));
        assert_eq!(request.call(&bus, async || Ok::<_, PayError>(8)).await, Ok(Ran::Before(7)));
        stop(bus).await;
    }

    async fn final_errors_are_given_again_by_declaration(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = start(home, &clock).await;
        let runs = AtomicU32::new(0);
        let ask = async |bus: &Bus, answer: Result<u32, PayError>| {
            let request = PAY.request(&1_u32, &()).expect("written");
            let keep = |error: &PayError| *error == PayError::Declined;
            let work = async || {
                runs.fetch_add(1, Ordering::Relaxed);
                answer
            };
            request.call_keeping(bus, keep, work).await
        };
        assert_eq!(ask(&bus, Err(PayError::Unreachable)).await, Err(PayError::Unreachable));
        assert_eq!(ask(&bus, Err(PayError::Declined)).await, Err(PayError::Declined));
        assert_eq!(ask(&bus, Ok(1)).await, Err(PayError::Declined), "it is final");
        stop(bus).await;
        let bus = start(home, &clock).await;
        assert_eq!(ask(&bus, Ok(1)).await, Err(PayError::Declined), "across restarts too");
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        stop(bus).await;
    }

    async fn a_large_answer_is_stored_and_gone_when_its_time_is_over(home: &dyn Home) {
        let clock = MovedClock::default();
        let bus = start(home, &clock).await;
        let large = "x".repeat(300_000);
        let request = PAY.request(&1_u32, &()).expect("written");
        let ran = request.call(&bus, async || Ok::<_, Error>(large.clone())).await.expect("stored");
        assert_eq!(ran, Ran::Now(large.clone()));
        stop(bus).await;
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).clock(clock.clone()).start().await.expect("starts");
        let again = request.call(&bus, async || Ok::<_, Error>(String::new())).await.expect("stored");
        assert_eq!(again.into_inner(), large);
        clock.advance(DAY + Duration::from_secs(120));
        while store.upcoming().borrow().expires.is_some() {
            tokio::task::yield_now().await;
        }
        stop(bus).await;
    }

    async fn an_open_unit_recalls_and_keeps_by_hand(home: &dyn Home) {
        let bus = start(home, &MovedClock::default()).await;
        for round in 0..2 {
            let request = PAY.request(&1_u32, &"socks").expect("written");
            let unit = bus.transaction(async |tx| {
                if let Some(before) = request.recall::<i64>(tx).await? {
                    return Ok(before);
                }
                PAID.add(tx, &0, 1)?;
                request.keep(tx, &42_i64).await?;
                Ok::<_, Error>(42)
            });
            assert_eq!((unit.await.expect("committed").value, paid(&bus)), (42, 1), "round {round}");
        }
        stop(bus).await;
    }

    /// Callers that come while the first one runs wait for it, and get its answer; it runs once, however many there are.
    async fn callers_that_come_meanwhile_get_the_first_ones_answer(home: &dyn Home) {
        let bus = start(home, &MovedClock::default()).await;
        let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (bus, runs, gate) = (bus.clone(), runs.clone(), gate.clone());
                tokio::spawn(async move {
                    let request = PAY.request(&"click".to_owned(), &5_u32).expect("written");
                    let work = async || {
                        let run = runs.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.expect("open").forget();
                        Ok::<_, Error>(run)
                    };
                    request.call(&bus, work).await.expect("answered")
                })
            })
            .collect();
        while bus.locked().iter().map(|locked| locked.waiters.len()).sum::<usize>() < 19 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        let mut now = 0;
        for caller in callers {
            match caller.await.expect("no task panics") {
                Ran::Now(0) => now += 1,
                ran => assert_eq!(ran, Ran::Before(0)),
            }
        }
        assert_eq!((now, runs.load(Ordering::SeqCst), bus.locked_keys()), (1, 1, 0));
        stop(bus).await;
    }

    /// A caller that is gone leaves the request free: dropped before its work was done nothing is stored.
    async fn a_caller_dropped_at_any_await_point_leaves_the_request_free_or_answered(home: &dyn Home) {
        let bus = start(home, &MovedClock::default()).await;
        for polls in 0_u32..200 {
            let request = PAY.request(&polls, &()).expect("written");
            let mut dropped = Box::pin(request.transaction(&bus, async |tx| {
                tokio::task::yield_now().await;
                PAID.add(tx, &polls, 1)
            }));
            let mut ended = false;
            for _ in 0..polls {
                ended = crate::locks::poll_once(&mut dropped).await.is_some();
                if ended {
                    break;
                }
            }
            drop(dropped);
            bus.idle().await;
            assert_eq!(bus.locked_keys(), 0, "{polls} polls");
            request.transaction(&bus, async |tx| PAID.add(tx, &polls, 1)).await.expect("free, or answered");
            assert_eq!(PAID.get(&mut bus.reader().expect("tables"), &polls).expect("a read"), 1, "{polls} polls");
            if ended {
                break;
            }
        }
        stop(bus).await;
    }

    /// A commit that was handed over goes on without its caller, and so does the lock of its request.
    async fn a_caller_that_is_gone_during_its_commit_lets_nobody_run_the_request_meanwhile(home: &dyn Home) {
        let store = FailingStore::around(home.open());
        let bus = Bus::builder().shared_store(Arc::new(store.clone())).start().await.expect("starts");
        for in_store in [false, true] {
            let (runs, stalled) = (AtomicU32::new(0), Mutex::new(None));
            let ask = || async {
                let request = PAY.request(&in_store, &()).expect("written");
                let work = async || {
                    let run = runs.fetch_add(1, Ordering::SeqCst);
                    if run == 0 {
                        let waiting = store.stall_commits().await;
                        store.clear_steps();
                        *stalled.lock() = Some(waiting);
                    }
                    Ok::<_, Error>(run)
                };
                match in_store {
                    false => request.call(&bus, work).await,
                    true => request.transaction(&bus, async |_| work().await).await,
                }
            };
            let mut first = Box::pin(ask());
            while stalled.lock().is_none() || !store.steps().contains(&Step::Commit) {
                assert!(crate::locks::poll_once(&mut first).await.is_none(), "its commit waits");
                tokio::task::yield_now().await;
            }
            drop(first);
            let mut second = Box::pin(ask());
            for _ in 0..50 {
                assert!(crate::locks::poll_once(&mut second).await.is_none(), "it waits for the first one");
                tokio::task::yield_now().await;
            }
            assert_eq!(runs.load(Ordering::SeqCst), 1);
            stalled.lock().take();
            assert_eq!(second.await.expect("answered"), Ran::Before(0));
        }
        stop(bus).await;
    }
}
