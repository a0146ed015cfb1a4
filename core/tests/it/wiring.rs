//! What a bus refuses at start, at run time and at its end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aftercommit::error::{BoxError, StartError, StoreError, UnitError};
use aftercommit::listener;
use aftercommit::prelude::*;

use crate::scene::{Placed, ROWS, Rang};

on_every_store! {
    /// Two buses on one store would deliver everything twice; once the first is gone, the next may have it.
    async fn a_store_belongs_to_one_bus(home: &dyn Home) {
        let store = home.open();
        let bus = Bus::builder().shared_store(store.clone()).start().await.expect("the first starts");
        let second = Bus::builder().shared_store(store.clone()).start().await;
        assert!(matches!(second, Err(StartError::StoreTaken { .. })), "{second:?}");
        drop(bus);
        Bus::builder().shared_store(store).start().await.expect("the first is gone");
    }

    /// What a registered listener is owed is not forgotten unasked; an unknown one is said to be unknown.
    async fn a_registered_listener_is_not_forgotten(home: &dyn Home) {
        let durable = listener::on::<Placed>("kept").durable().call(|_| ());
        let bus = Bus::builder().shared_store(home.open()).listener(durable).start().await.expect("the bus starts");
        let refused = bus.forget_listener("kept").await;
        assert!(matches!(refused, Err(Error::Store(StoreError::InUse { .. }))), "{refused:?}");
        assert!(!bus.forget_listener("never-heard-of").await.expect("asked"));
        assert!(bus.unregister("kept") && bus.forget_listener("kept").await.expect("forgotten"));
        assert!(!bus.forget_listener("kept").await.expect("asked again"));
    }

    /// A second shutdown finds nothing left to do.
    async fn shutting_down_twice_is_shutting_down(home: &dyn Home) {
        let bus = Bus::builder().shared_store(home.open()).start().await.expect("the bus starts");
        bus.shutdown(Duration::from_secs(60)).await.expect("the first time");
        bus.shutdown(Duration::from_secs(60)).await.expect("the second time");
    }

    /// A panic of an immediate listener that the closure catches does not let the unit commit what it cut off.
    async fn a_caught_panic_of_an_immediate_listener_still_rolls_back(home: &dyn Home) {
        let breaks = listener::on::<Rang>("breaks").phase(Phase::Immediate).call(|_| -> () { std::panic::panic_any("broken") });
        let bus = Bus::builder().shared_store(home.open()).listener(breaks).start().await.expect("the bus starts");
        let ended: Result<_, Error> = bus
            .transaction(async |tx| {
                ROWS.put(tx, &1, &"half".to_owned())?;
                let caught = std::panic::catch_unwind(AssertUnwindSafe(|| tx.publish(Rang(1))));
                assert!(caught.is_err(), "the panic passed through");
                Ok(())
            })
            .await;
        assert!(matches!(ended, Err(Error::Unit(UnitError::RollbackOnly { .. }))), "{ended:?}");
        assert_eq!(ROWS.get(&mut bus.reader().expect("a reader"), &1).expect("asked"), None);
    }
}

#[tokio::test]
async fn two_states_of_one_type_are_refused() {
    let started = Bus::builder().state(1u32).state(2u32).start().await;
    assert!(matches!(started, Err(StartError::DuplicateState { state: "u32" })), "{started:?}");
}

#[tokio::test]
async fn an_order_of_a_durable_listener_is_refused() -> Result<(), BoxError> {
    let ordered = listener::on::<Placed>("ordered").durable().order(1).call(|_| ());
    let started = Bus::builder().listener(ordered).start().await;
    assert!(matches!(&started, Err(StartError::Listener { reason, .. }) if reason.contains("order")), "{started:?}");
    Ok(())
}

#[tokio::test]
async fn a_listener_given_twice_is_told_from_two_of_one_id() {
    let once = || listener::on::<Placed>("both").call(|_| ());
    let twice = Bus::builder().listener(once()).listener(once()).start().await.err().map(|error| error.to_string());
    assert!(twice.as_deref().is_some_and(|told| told.contains("is given twice")), "{twice:?}");
    let other = listener::on::<Placed>("both").call(|_| ());
    let two = Bus::builder().listener(once()).listener(other).start().await.err().map(|error| error.to_string());
    assert!(two.as_deref().is_some_and(|told| told.contains("give one of them another id")), "{two:?}");
}
