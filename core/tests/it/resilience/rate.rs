//! RL: the rate limiter; cycles of 10 s.

use std::sync::Arc;

use aftercommit::clock::{Clock, Timestamp};
use aftercommit::error::PolicyError;
use aftercommit::resilience::{Happened, KeyedRateLimiter, RateLimiter, RateSettings};
use aftercommit::testing::MovedClock;
use futures::FutureExt;

use super::{Heard, millis, secs};

fn limiter(settings: RateSettings) -> (RateLimiter, MovedClock) {
    let clock = MovedClock::at(Timestamp(12_345));
    let limiter = RateLimiter::on_clock("gateway", settings, Arc::new(clock.clone())).expect("legal");
    (limiter, clock)
}

fn one_per_cycle() -> RateSettings {
    RateSettings::new(1, secs(10))
}

#[tokio::test]
async fn rl_01_without_a_timeout_the_second_is_refused_until_the_next_cycle() {
    let (limiter, clock) = limiter(one_per_cycle());
    let heard = Heard::default();
    limiter.hear_all(heard.told());
    assert_eq!(limiter.acquire().await, Ok(()));
    let refusal = PolicyError::RateLimited { limiter: "gateway".into(), timeout: secs(0), retry_after: secs(10) };
    assert_eq!(limiter.acquire().await, Err(refusal));
    clock.advance(millis(9_999));
    assert!(!limiter.try_acquire());
    clock.advance(millis(1));
    assert!(limiter.try_acquire());
    assert_eq!(heard.take(), [Happened::Admitted, Happened::Refused, Happened::Refused, Happened::Admitted]);
    assert_eq!(limiter.refused(), 2);
}

#[test]
fn rl_02_its_very_first_cycle_has_all_permits() {
    let (limiter, _) = limiter(RateSettings::new(3, secs(10)));
    assert_eq!(limiter.available(), 3);
    assert_eq!((0..5).filter(|_| limiter.try_acquire()).count(), 3);
}

#[tokio::test]
async fn rl_03_who_waits_a_cycle_reserves_its_permit_and_gets_it_then() {
    let (limiter, clock) = limiter(one_per_cycle().timeout(secs(10)));
    assert!(limiter.acquire().now_or_never().is_some());
    let second = limiter.acquire();
    tokio::pin!(second);
    assert!((&mut second).now_or_never().is_none());
    assert_eq!((limiter.available(), limiter.waiting()), (-1, 1));
    assert!(limiter.acquire().now_or_never().expect("at once").is_err(), "the one after that is too far away");
    clock.advance(millis(9_999));
    assert!((&mut second).now_or_never().is_none());
    clock.advance(millis(1));
    assert_eq!((&mut second).now_or_never(), Some(Ok(())));
    assert_eq!((limiter.available(), limiter.waiting()), (0, 0), "it was of this cycle");
}

#[test]
fn rl_05_permits_that_nobody_took_do_not_add_up() {
    let (limiter, clock) = limiter(one_per_cycle());
    clock.advance(secs(40));
    assert_eq!(limiter.available(), 1);
    assert!(limiter.try_acquire() && !limiter.try_acquire());
}

#[tokio::test]
async fn rl_07_more_permits_than_a_cycle_has_take_several_cycles() {
    let (limiter, clock) = limiter(one_per_cycle().timeout(secs(60)));
    let three = limiter.acquire_many(3);
    tokio::pin!(three);
    assert!((&mut three).now_or_never().is_none());
    assert_eq!(limiter.available(), -2);
    clock.advance(millis(19_999));
    assert!((&mut three).now_or_never().is_none());
    clock.advance(millis(1));
    assert_eq!((&mut three).now_or_never(), Some(Ok(())));
    assert_eq!(limiter.available(), 0);
}

#[tokio::test]
async fn rl_08_settings_change_while_it_runs_and_who_goes_away_waits_no_more() {
    let (limiter, clock) = limiter(one_per_cycle());
    assert!(limiter.try_acquire());
    limiter.change(RateSettings::new(5, secs(10)).timeout(secs(10))).expect("legal");
    assert!(!limiter.try_acquire(), "this cycle keeps its permit");
    let waiting = limiter.acquire();
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none(), "the timeout holds at once");
    clock.advance(secs(10));
    assert_eq!((&mut waiting).now_or_never(), Some(Ok(())));
    assert_eq!(limiter.available(), 4);
    assert_eq!((0..5).filter(|_| limiter.try_acquire()).count(), 4);
    {
        let gone = limiter.acquire();
        tokio::pin!(gone);
        assert!((&mut gone).now_or_never().is_none());
        assert_eq!((limiter.waiting(), limiter.available()), (1, -1));
    }
    assert_eq!((limiter.waiting(), limiter.available()), (0, 0), "its permit is there for another");
    limiter.change(RateSettings::new(2, secs(1))).expect("legal");
    assert!(!limiter.try_acquire());
    clock.advance(secs(1));
    assert_eq!((0..5).filter(|_| limiter.try_acquire()).count(), 2);
    assert!(limiter.change(RateSettings::new(0, secs(1))).is_err());
    assert!(RateLimiter::new("gateway", RateSettings::new(1, millis(0))).is_err());
}

#[test]
fn each_key_has_permits_of_its_own_and_takes_memory_only_while_it_uses_them() {
    let clock = MovedClock::default();
    let limiter = KeyedRateLimiter::on_clock("per-user", RateSettings::new(2, secs(10)), Arc::new(clock.clone()));
    let limiter = limiter.expect("legal");
    for user in 0..100_000_u32 {
        assert!(limiter.try_acquire(&user) && limiter.try_acquire(&user) && !limiter.try_acquire(&user));
    }
    assert_eq!((limiter.len(), limiter.available(&7), limiter.available(&1_000_000)), (100_000, 0, 2));
    clock.advance(secs(10));
    for user in 0..100_000_u32 {
        assert!(limiter.try_acquire(&(user % 10)) == (user < 20));
    }
    for other in 200_000..300_000_u32 {
        assert!(limiter.try_acquire(&other));
    }
    assert!(limiter.len() < 110_000, "{} keys are kept", limiter.len());
}

#[tokio::test]
async fn a_key_reserves_and_gives_back_as_one_limiter_does() {
    let clock = MovedClock::default();
    let settings = one_per_cycle().timeout(secs(10));
    let limiter = KeyedRateLimiter::on_clock("per-user", settings, Arc::new(clock.clone())).expect("legal");
    assert!(limiter.acquire(&1).now_or_never().is_some());
    {
        let gone = limiter.acquire(&1);
        tokio::pin!(gone);
        assert!((&mut gone).now_or_never().is_none());
        assert_eq!(limiter.available(&1), -1);
    }
    let second = limiter.acquire(&1);
    tokio::pin!(second);
    assert!((&mut second).now_or_never().is_none(), "what was given back is reserved again");
    clock.advance(secs(10));
    assert_eq!((&mut second).now_or_never(), Some(Ok(())));
    limiter.change(RateSettings::new(3, secs(10))).expect("legal");
    assert!(limiter.change(RateSettings::new(3, secs(1))).is_err());
}

#[test]
fn many_threads_get_exactly_the_permits_there_are() {
    let (limiter, clock) = limiter(RateSettings::new(1_000, secs(10)));
    for _cycle in 0..3 {
        let got: usize = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| limiter.try_acquire()).count())).collect();
            takers.into_iter().map(|taker| taker.join().expect("no panic")).sum()
        });
        assert_eq!(got, 1_000);
        clock.advance(secs(10));
    }
    let _ = clock.now();
}

#[test]
fn after_more_cycles_than_anybody_counts_it_lets_calls_through_again() {
    let (limiter, clock) = limiter(RateSettings::new(1, millis(1)));
    assert!(limiter.try_acquire());
    clock.advance(millis((1 << 31) + 1));
    assert!(limiter.try_acquire());
    assert!(!limiter.try_acquire());
}
