//! TL: the time limiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::clock::Clock;
use aftercommit::error::PolicyError;
use aftercommit::resilience::{Happened, Pipeline};
use aftercommit::testing::MovedClock;
use futures::FutureExt;

use super::{Failure, Heard, millis, secs};

fn limited() -> (Pipeline, MovedClock) {
    let clock = MovedClock::default();
    let pipeline = Pipeline::named("gateway").time_limiter(secs(2)).clock(clock.clone()).build().expect("legal");
    (pipeline, clock)
}

struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn tl_01_work_that_takes_too_long_is_dropped_and_the_error_names_the_limiter() {
    let (pipeline, clock) = limited();
    let heard = Heard::default();
    pipeline.hear(&heard.told());
    let dropped = Arc::new(AtomicBool::new(false));
    let call = pipeline.call(async || {
        let _work = Dropped(dropped.clone());
        std::future::pending::<()>().await;
        Ok::<(), Failure>(())
    });
    tokio::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    clock.advance(millis(1_999));
    assert!((&mut call).now_or_never().is_none() && !dropped.load(Ordering::SeqCst));
    clock.advance(millis(1));
    let error = PolicyError::TimedOut { limiter: "gateway".into(), limit: secs(2) };
    assert_eq!(error.to_string(), "time limiter `gateway`: the call took longer than 2s");
    assert_eq!((&mut call).now_or_never(), Some(Err(Failure::Policy(error))));
    assert!(dropped.load(Ordering::SeqCst), "the work is gone by the time the caller hears of it");
    assert_eq!(heard.take(), [Happened::TimedOut { limit: secs(2) }]);
}

#[tokio::test]
async fn tl_03_work_within_the_limit_has_its_value() {
    let (pipeline, clock) = limited();
    let work = clock.clone();
    let call = pipeline.call(async || {
        work.sleep(secs(1)).await;
        Ok::<_, Failure>(7)
    });
    tokio::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    clock.advance(secs(1));
    assert_eq!((&mut call).now_or_never(), Some(Ok(7)));
    assert_eq!(clock.sleepers(), 0, "its timer is gone");
    assert_eq!(pipeline.call(async || Ok::<_, Failure>(8)).now_or_never(), Some(Ok(8)));
}

#[tokio::test]
async fn tl_04_an_error_of_the_work_is_its_own() {
    let (pipeline, clock) = limited();
    let work = clock.clone();
    let call = pipeline.call(async || {
        work.sleep(secs(1)).await;
        Err::<(), _>(Failure::Down)
    });
    tokio::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    clock.advance(secs(1));
    assert_eq!((&mut call).now_or_never(), Some(Err(Failure::Down)));
}

#[test]
fn a_fn_cannot_be_stopped_and_is_told_so() {
    let (pipeline, _) = limited();
    let mut called = false;
    let answer = pipeline.call_blocking(|| {
        called = true;
        Ok::<(), Failure>(())
    });
    assert_eq!(answer, Err(Failure::Policy(PolicyError::CannotStop { limiter: "gateway".into() })));
    assert!(!called);
}
