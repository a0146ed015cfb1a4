//! The circuit breaker under schedules.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::machine::{Change, Limits, Machine, Permit, State};
use crate::schedules;
use crate::window::{FAILED, Reach};

fn limits(trials: u32) -> Limits {
    Limits {
        failure_rate: 50.0,
        slow_rate: 100.0,
        minimum_calls: 3,
        reach: Reach::Count(4),
        trials,
        trial_time: None,
        open_for: 10,
        growth: 1.0,
        open_at_most: 10,
    }
}

/// As the breaker asks: without the lock first.
fn permit(machine: &Machine, now: u64) -> Option<Permit> {
    machine.lets_all().or_else(|| machine.permit(now).0.ok())
}

fn all<T: Send + 'static>(count: u64, work: impl Fn(u64) -> T + Send + Sync + 'static) -> Vec<T> {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let work = work.clone();
            thread::spawn(move || work(number))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn however_many_come_at_once_exactly_the_trials_are_let_through() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(2), State::Open, 0));
            let asked = machine.clone();
            let let_through = all(4, move |_| permit(&asked, 10).is_some());
            assert_eq!(let_through.iter().filter(|let_through| **let_through).count(), 2);
            assert_eq!(machine.look(10).refused, 2);
        },
        schedules(),
    );
}

#[test]
fn however_outcomes_come_it_opens_once_and_on_the_outcome_that_is_enough() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(1), State::Closed, 0));
            let told = machine.clone();
            let opened = all(4, move |_| {
                let Some(permit) = permit(&told, 0) else { return 0 };
                let opens = |change: &Option<Change>| {
                    matches!(change, Some(Change::Moved { from: State::Closed, to: State::Open }))
                };
                told.record(permit, FAILED, || 0).iter().filter(|change| opens(change)).count()
            });
            assert_eq!(opened.iter().sum::<usize>(), 1);
            let look = machine.look(0);
            assert_eq!((look.state, look.totals.calls), (State::Open, 3), "what came later belongs to no stay");
        },
        schedules(),
    );
}

#[test]
fn an_outcome_never_counts_in_another_stay_than_the_one_that_let_its_call_through() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(1), State::Closed, 0));
            let late = permit(&machine, 0).expect("it is closed");
            let shared = machine.clone();
            all(2, move |number| match number {
                0 => drop(shared.record(late, FAILED, || 0)),
                _ => {
                    shared.transition(State::Open, None, 0);
                    let trial = permit(&shared, 10).expect("the only one who asks");
                    shared.record(trial, 0, || 10);
                }
            });
            let look = machine.look(10);
            assert_eq!(
                (look.state, look.totals.calls),
                (State::Closed, 0),
                "closed by its trial, with nothing counted"
            );
        },
        schedules(),
    );
}

#[test]
fn trials_that_are_given_back_are_let_through_again_and_never_more_at_once() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(2), State::HalfOpen, 0));
            let (shared, inside) = (machine.clone(), AtomicU64::new(0));
            all(3, move |_| {
                for _ in 0..2 {
                    let Some(trial) = permit(&shared, 0) else { continue };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    shared.release(trial);
                }
            });
            assert_eq!(machine.state(), State::HalfOpen);
            assert!(permit(&machine, 0).is_some() && permit(&machine, 0).is_some() && permit(&machine, 0).is_none());
        },
        schedules(),
    );
}

#[test]
fn settings_and_states_that_change_meanwhile_leave_it_in_one_of_its_states() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(1), State::Closed, 0));
            let shared = machine.clone();
            all(3, move |number| match number {
                0 => shared.limit(Limits { reach: Reach::Time(1_000), ..limits(3) }),
                1 => drop(shared.transition(State::MetricsOnly, None, 0)),
                _ => {
                    for _ in 0..3 {
                        if let Some(permit) = permit(&shared, 0) {
                            shared.record(permit, FAILED, || 0);
                        }
                    }
                }
            });
            let look = machine.look(0);
            assert!(matches!(look.state, State::MetricsOnly), "the last who said so was heard: {look:?}");
            assert!(look.totals.calls <= 3);
        },
        schedules(),
    );
}

#[test]
fn successes_are_counted_whether_they_take_the_lock_or_not() {
    shuttle::check_random(
        || {
            let limits = Limits { failure_rate: 100.0, minimum_calls: 8, reach: Reach::Count(8), ..limits(1) };
            let machine = Arc::new(Machine::new(limits, State::Closed, 0));
            let shared = machine.clone();
            all(4, move |number| {
                for _ in 0..2 {
                    let permit = permit(&shared, 0).expect("it is closed");
                    shared.record(permit, if number == 0 { FAILED } else { 0 }, || 0);
                }
                if number == 1 {
                    assert!(shared.look(0).totals.calls >= 2, "its own at least");
                }
            });
            let look = machine.look(0);
            assert_eq!((look.state, look.totals.calls, look.totals.failed), (State::Closed, 8, 2));
            // The window is full: successes push the failures out, however many more of them come.
            for _ in 0..20 {
                let told = machine.record(permit(&machine, 0).expect("it is closed"), 0, || 0);
                assert_eq!(told, [None; 2]);
            }
            assert_eq!((machine.look(0).totals.calls, machine.look(0).totals.failed), (8, 0));
        },
        schedules(),
    );
}

#[test]
fn a_success_of_a_stay_that_is_over_is_not_counted_in_the_next() {
    shuttle::check_random(
        || {
            let machine = Arc::new(Machine::new(limits(1), State::Closed, 0));
            let before = permit(&machine, 0).expect("it is closed");
            let shared = machine.clone();
            all(2, move |number| match number {
                0 => drop(shared.record(before, 0, || 0)),
                _ => {
                    shared.transition(State::Open, None, 0);
                    shared.transition(State::Closed, None, 0);
                }
            });
            assert_eq!(machine.look(0).totals.calls, 0);
        },
        schedules(),
    );
}
