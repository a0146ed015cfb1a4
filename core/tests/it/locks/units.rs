//! Locks of units of work: held until the outcome is durable.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aftercommit::error::LockError;
use aftercommit::lock::{AnyKey, Mode};
use aftercommit::prelude::*;
use futures::FutureExt;
use tokio::sync::Barrier;

use super::poll_once;
use crate::scene::bus_on;

on_embedded_stores! {
    /// Two units that take two locks in opposite orders: the second to wait is told, with both names; rolled back, it lets the
    /// other one through.
    async fn units_that_wait_for_each_other_are_told_with_both_names(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let met = Barrier::new(2);
        let transfer = async |name: &'static str, from: u32, to: u32| {
            bus.transaction(async |tx| {
                tx.set_name(name);
                tx.lock(from).await?;
                met.wait().await;
                tx.lock(to).await
            })
            .await
        };
        let (one, other) = tokio::join!(transfer("transfer one", 1, 2), transfer("transfer other", 2, 1));
        let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
        won.expect("the other one rolled back");
        let error = lost.expect_err("a circle");
        assert!(error.is_transient());
        let Error::Lock(LockError::Deadlock { circle }) = &error else { panic!("{error}") };
        assert_eq!(circle.len(), 2);
        let text = error.to_string();
        for part in ["transfer one", "transfer other", "lock `1`", "lock `2`", "units.rs:"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert_eq!((bus.locked_keys(), bus.locks().counts().deadlocks), (0, 1));
    }

    async fn a_lock_is_released_when_the_unit_panics_or_its_future_is_dropped(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let panicking = bus.transaction(async |tx| -> Result<(), Error> {
            tx.lock(1_u32).await?;
            panic!("out of paper")
        });
        assert!(AssertUnwindSafe(panicking).catch_unwind().await.is_err());
        let mut dropped = Box::pin(bus.transaction(async |tx| {
            tx.lock(2_u32).await?;
            std::future::pending::<Result<(), Error>>().await
        }));
        for _ in 0..5 {
            assert!(poll_once(&mut dropped).await.is_none());
        }
        assert!(bus.locks().try_lock(AnyKey::of(&2_u32)).is_none());
        drop(dropped);
        bus.idle().await;
        assert_eq!(bus.locked_keys(), 0);
    }
}

on_every_store! {
    async fn a_unit_asks_again_for_what_it_holds(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let unit = bus.transaction(async |tx| {
            tx.lock(1_u32).await?;
            tx.lock(1_u32).await?;
            tx.lock_shared(1_u32).await?;
            assert!(tx.try_lock(1_u32)?);
            tx.lock_all([3_u32, 1, 2, 3]).await?;
            tx.lock(1_u64).await?;
            assert_eq!(bus.locked_keys(), 4, "keys of different types do not meet");
            tx.lock_shared(9_u32).await?;
            let upgrade = tx.lock(9_u32).await;
            assert!(matches!(upgrade, Err(Error::Lock(LockError::Upgrade { .. }))), "{upgrade:?}");
            Ok::<_, Error>(())
        });
        unit.await.expect("committed");
        assert_eq!(bus.locked_keys(), 0);
    }

    async fn what_is_held_outside_of_units_is_held_against_them(home: &dyn Home) {
        let bus = bus_on(home).lock_wait(Duration::from_millis(1)).start().await.expect("a bus");
        let held = bus.locks().lock_owned(AnyKey::of(&1_u32)).await;
        let late = bus.transaction(async |tx| {
            assert!(!tx.try_lock(1_u32)?);
            tx.lock(1_u32).await
        });
        assert!(matches!(late.await, Err(Error::Lock(LockError::Timeout { .. }))));
        drop(held);
        bus.transaction(async |tx| tx.lock(1_u32).await).await.expect("free");
    }

    async fn who_holds_and_who_waits_can_be_seen(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let mut waiting = Box::pin(bus.locks().lock_owned(AnyKey::of(&"socks".to_owned())));
        bus.transaction(async |tx| {
            tx.set_name("place order");
            tx.lock("socks".to_owned()).await?;
            assert!(poll_once(&mut waiting).await.is_none());
            let seen = bus.locked();
            assert_eq!((seen.len(), &*seen[0].key, seen[0].mode), (1, "\"socks\"", Mode::Exclusive));
            assert!(seen[0].holders[0].starts_with("place order, ") && seen[0].holders.len() == 1, "{seen:?}");
            assert!(seen[0].waiters[0].contains("units.rs:") && seen[0].waiters.len() == 1, "{seen:?}");
            Ok::<_, Error>(())
        })
        .await
        .expect("committed");
        drop(waiting.await);
        assert!(bus.locked().is_empty());
    }

    async fn a_blocking_unit_takes_locks_too(home: &dyn Home) {
        let bus = bus_on(home).start().await.expect("a bus");
        let held = bus.locks().lock_owned(AnyKey::of(&1_u32)).await;
        let of_thread = bus.clone();
        let thread = std::thread::spawn(move || of_thread.transaction_blocking(|tx| tx.lock_blocking(1_u32)).map(drop));
        while bus.locked().iter().all(|locked| locked.waiters.is_empty()) {
            tokio::task::yield_now().await;
        }
        drop(held);
        thread.join().expect("no panic").expect("committed");
        assert_eq!(bus.locked_keys(), 0);
    }
}
