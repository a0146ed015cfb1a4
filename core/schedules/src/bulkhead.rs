//! The bulkhead under schedules.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{future, thread};

use crate::gate::Gate;
use crate::schedules;

/// So many threads come in and go out, and in between each is one of at most `limit`.
fn check(limit: u32, threads: usize, goes_away: bool) {
    shuttle::check_random(
        move || {
            let (gate, inside) = (Arc::new(Gate::new(limit)), Arc::new(AtomicU64::new(0)));
            let visitors: Vec<_> = (0..threads)
                .map(|number| {
                    let (gate, inside) = (gate.clone(), inside.clone());
                    thread::spawn(move || {
                        if !gate.try_enter() {
                            let turn = gate.queue();
                            if goes_away && number == 0 {
                                return drop(turn);
                            }
                            future::block_on(turn);
                        }
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < u64::from(limit), "too many at once");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        gate.leave();
                    })
                })
                .collect();
            visitors.into_iter().for_each(|visitor| visitor.join().expect("no panic"));
            assert_eq!((gate.inside(), gate.waiting()), (0, 0));
            assert!(gate.try_enter(), "no place is taken by nobody");
        },
        schedules(),
    );
}

#[test]
fn never_more_at_once_than_there_are_places_and_everybody_gets_a_turn() {
    check(1, 3, false);
    check(2, 4, false);
}

#[test]
fn who_goes_away_from_the_line_leaves_no_place_taken() {
    check(1, 3, true);
}

#[test]
fn a_place_that_is_added_is_given_to_one_who_waits() {
    shuttle::check_random(
        || {
            let gate = Arc::new(Gate::new(0));
            let waiting = gate.clone();
            let waiter = thread::spawn(move || future::block_on(waiting.queue()));
            gate.resize(1);
            waiter.join().expect("it came in");
            assert_eq!((gate.inside(), gate.waiting()), (1, 0));
        },
        schedules(),
    );
}
