//! BH: the bulkhead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aftercommit::error::PolicyError;
use aftercommit::resilience::{Bulkhead, BulkheadSettings, Happened, Pipeline};
use aftercommit::testing::MovedClock;
use futures::FutureExt;

use super::{Failure, Heard, millis, secs};

fn bulkhead(settings: BulkheadSettings) -> (Bulkhead, MovedClock) {
    let clock = MovedClock::default();
    let bulkhead = Bulkhead::on_clock("gateway", settings, Arc::new(clock.clone())).expect("legal");
    (bulkhead, clock)
}

#[tokio::test]
async fn bh_01_so_many_at_once_the_next_when_one_is_over_and_each_is_told() {
    let (bulkhead, _) = bulkhead(BulkheadSettings::new(2));
    let heard = Heard::default();
    bulkhead.hear_all(heard.told());
    let first = bulkhead.enter().await.expect("a place");
    let second = bulkhead.enter().await.expect("a place");
    let refusal = PolicyError::BulkheadFull { bulkhead: "gateway".into(), waited: secs(0) };
    assert_eq!(bulkhead.enter().await.err(), Some(refusal));
    drop(first);
    let third = bulkhead.enter().await.expect("the place of the first");
    assert_eq!((bulkhead.inside(), bulkhead.refused()), (2, 1));
    drop((second, third));
    use Happened::{Admitted, Finished, Refused};
    assert_eq!(heard.take(), [Admitted, Admitted, Refused, Finished, Admitted, Finished, Finished]);
}

#[tokio::test]
async fn bh_02_who_is_refused_waited_as_long_as_was_said_and_no_longer() {
    let (bulkhead, clock) = bulkhead(BulkheadSettings::new(1).max_wait(secs(3)));
    let inside = bulkhead.try_enter().expect("a place");
    {
        let waiting = bulkhead.enter();
        tokio::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(bulkhead.waiting(), 1);
        clock.advance(millis(2_999));
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(millis(1));
        let refusal = PolicyError::BulkheadFull { bulkhead: "gateway".into(), waited: secs(3) };
        assert_eq!((&mut waiting).now_or_never().expect("over").err(), Some(refusal));
    }
    assert_eq!(bulkhead.waiting(), 0);
    let waiting = bulkhead.enter();
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    drop(inside);
    assert!(bulkhead.try_enter().is_none(), "nobody comes in past one who waits");
    assert!((&mut waiting).now_or_never().expect("its turn").is_ok());
}

#[test]
fn bh_04_none_at_once_refuses_all() {
    let (bulkhead, _) = bulkhead(BulkheadSettings::new(0));
    assert!(bulkhead.try_enter().is_none());
    bulkhead.change(BulkheadSettings::new(1)).expect("legal");
    assert!(bulkhead.try_enter().is_some(), "it may be resized while it runs");
}

/// The peer moves work to a pool of threads and must carry the context over; here the call stays in its caller's task.
#[tokio::test]
async fn bh_06_the_callers_context_is_there_in_the_call() {
    tokio::task_local!(static TENANT: u32);
    let gateway = Pipeline::of(bulkhead(BulkheadSettings::new(1).max_wait(secs(1))).0);
    let seen = TENANT
        .scope(
            7,
            gateway.call(async || {
                tokio::task::yield_now().await;
                Ok::<_, Failure>(TENANT.get())
            }),
        )
        .await;
    assert_eq!(seen, Ok(7));
}

#[test]
fn never_more_than_so_many_threads_are_inside_and_all_get_their_turn() {
    let bulkhead = Bulkhead::new("gateway", BulkheadSettings::new(2).max_wait(secs(60))).expect("legal");
    let gateway = Pipeline::of(bulkhead.clone());
    let (inside, most, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let answer = gateway.call_blocking(|| {
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        Ok::<(), Failure>(())
                    });
                    assert_eq!(answer, Ok(()));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 1_600);
    assert!(most.into_inner() <= 2);
    assert_eq!((bulkhead.inside(), bulkhead.waiting()), (0, 0));
}
