//! `lock` on listeners: one call at a time for each key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aftercommit::error::{BoxError, LockError, StartError};
use aftercommit::listener::{self, Batch};
use aftercommit::lock::AnyKey;
use aftercommit::prelude::*;
use aftercommit::transaction::CallFuture;
use tokio::task::yield_now;

use crate::scene::{DONE, Heard, Placed, Rang, bus_on, done};

#[derive(Default)]
struct Crowd {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Crowd {
    async fn visit(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        for _ in 0..3 {
            yield_now().await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

on_embedded_stores! {
    async fn deliveries_of_one_lock_come_one_at_a_time_and_others_beside_them(home: &dyn Home) {
        for (keys, most) in [(1, 1), (4, 4)] {
            let crowd = Arc::new(Crowd::default());
            let visited = crowd.clone();
            let listener = listener::on::<Placed>("locks.durable")
                .durable()
                .concurrency(4)
                .lock(move |event| event.0 % keys)
                .takes_tx()
                .call_async(move |event, call| {
                    let visited = visited.clone();
                    CallFuture::from_or_box(async move {
                        visited.visit().await;
                        DONE.add(call.into_tx()?, &event.0, 1)?;
                        Ok(None)
                    })
                });
            let bus = bus_on(home).listener(listener).start().await.expect("a bus");
            let first = keys * 100;
            let unit = bus.transaction(async |tx| (first..first + 16).try_for_each(|number| tx.publish(Placed(number))));
            unit.await.expect("committed");
            bus.idle().await;
            assert!((first..first + 16).all(|number| done(&bus, number) == 1));
            assert!(crowd.most.load(Ordering::SeqCst) <= most);
            assert_eq!(bus.locked_keys(), 0);
            bus.shutdown(Duration::from_secs(5)).await.expect("stops");
        }
    }
}

on_embedded_stores! {
    /// The call is over, its answer is being published, and the commit that settles it is still to come.
    async fn a_delivery_beside_a_unit_of_work_keeps_its_lock_until_it_is_settled(home: &dyn Home) {
        let heard = Heard::default();
        let to = heard.clone();
        let replied = listener::on::<Rang>("locks.replied").phase(Phase::BeforeCommit).takes_tx().call_with(
            move |event: &Rang, call| -> Result<(), BoxError> {
                let (tx, key) = (call.tx()?, event.0);
                let is_free = tx.try_lock(key)?;
                to.note(format!("{key} is {}", if is_free { "free" } else { "held" }));
                Ok(())
            },
        );
        let beside = listener::on::<Placed>("locks.beside").durable().lock(|event| event.0).call(|event| Publish(Rang(event.0)));
        let bus = bus_on(home).listener(beside).listener(replied).start().await.expect("a bus");
        bus.transaction(async |tx| tx.publish(Placed(7))).await.expect("committed");
        bus.idle().await;
        assert_eq!(heard.all(), ["7 is held"]);
        assert_eq!(bus.locked_keys(), 0);
        bus.shutdown(Duration::from_secs(5)).await.expect("stops");
    }
}

on_every_store! {
    async fn a_listener_waits_for_who_holds_its_lock_in_each_phase(home: &dyn Home) {
        let heard = Heard::default();
        let note = |phase: &'static str| {
            let heard = heard.clone();
            move |event: &Rang| heard.note(format!("{phase} {}", event.0))
        };
        let bus = bus_on(home)
            .lock_wait(Duration::from_millis(5))
            .listener(listener::on::<Rang>("locks.before").phase(Phase::BeforeCommit).lock(|event| event.0).call(note("before")))
            .listener(listener::on::<Rang>("locks.after").lock(|event| (event.0, 1_u8)).call(note("after")))
            .start()
            .await
            .expect("a bus");
        let held = bus.locks().lock_owned(AnyKey::of(&1_u32)).await;
        let refused = bus.transaction(async |tx| tx.publish(Rang(1))).await.expect_err("its lock is held");
        let Error::Listener(error) = &refused else { panic!("{refused}") };
        let cause = error.cause.downcast_ref::<Error>();
        assert!(matches!(cause, Some(Error::Lock(LockError::Timeout { .. }))), "{refused}");
        drop(held);
        let unit = bus.transaction(async |tx| {
            // What the unit holds already its listener holds too.
            tx.lock(1_u32).await?;
            tx.publish(Rang(1))
        });
        assert!(unit.await.expect("committed").after_errors.is_empty());
        let held = bus.locks().lock_owned(AnyKey::of(&(2_u32, 1_u8))).await;
        let late = bus.transaction(async |tx| tx.publish(Rang(2))).await.expect("the commit stands");
        assert_eq!(late.after_errors.len(), 1);
        drop(held);
        assert_eq!(heard.all(), ["before 1", "after 1", "before 2"]);
        assert_eq!(bus.locked_keys(), 0);
    }
}

#[tokio::test]
async fn a_lock_is_refused_where_nothing_waits() {
    let on = || listener::on::<Placed>("locks.refused").lock(|event| event.0);
    let refused = [
        on().phase(Phase::Immediate).call(|_| {}),
        on().blocking().call(|_| {}),
        on().without_tx(listener::WithoutTx::Run).call(|_| {}),
        on().spawn().call_async(|_, _| CallFuture::from_or_box(async { Ok(None) })),
        on().durable().batch(Batch::new(8, Duration::ZERO)).call_batch(|_, _| Ok::<_, BoxError>(())),
    ];
    for listener in refused {
        let refused = Bus::builder().listener(listener).start().await;
        assert!(matches!(&refused, Err(StartError::Listener { reason, .. }) if reason.contains("lock")), "{refused:?}");
    }
}
