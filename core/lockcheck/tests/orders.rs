//! Every order in which a few threads can take the steps of the lock table.
#![allow(missing_docs)]

use aftercommit_lockcheck::{Locks, Mode};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// At most so many threads are interrupted in one order; beyond that there are too many orders to try.
const INTERRUPTIONS: usize = 3;

fn every_order(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(INTERRUPTIONS);
    model.check(run);
}

/// Touched by whoever is inside; loom finds two who touch it at the same time.
struct Protected(UnsafeCell<u32>);

impl Protected {
    fn new() -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(0)))
    }

    fn write(&self) {
        self.0.with_mut(|_| thread::yield_now());
    }

    fn read(&self) {
        self.0.with(|_| thread::yield_now());
    }
}

#[test]
fn one_is_inside_nobody_is_forgotten_and_nothing_is_left() {
    every_order(|| {
        let (locks, protected) = (Locks::default(), Protected::new());
        let visit = |locks: &Locks, protected: &Protected| {
            let held = locks.lock(1, Mode::Exclusive);
            protected.write();
            locks.release(held);
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (locks, protected) = (locks.clone(), protected.clone());
                thread::spawn(move || visit(&locks, &protected))
            })
            .collect();
        visit(&locks, &protected);
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        assert!(locks.is_empty());
    });
}

#[test]
fn sharers_are_inside_together_and_never_beside_one_who_is_alone() {
    every_order(|| {
        let (locks, protected) = (Locks::default(), Protected::new());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (locks, protected) = (locks.clone(), protected.clone());
                thread::spawn(move || {
                    let held = locks.lock(1, Mode::Shared);
                    protected.read();
                    locks.release(held);
                })
            })
            .collect();
        let held = locks.lock(1, Mode::Exclusive);
        protected.write();
        locks.release(held);
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        assert!(locks.is_empty());
    });
}

#[test]
fn a_wait_that_is_given_up_at_any_moment_holds_nobody_up() {
    every_order(|| {
        let (locks, protected) = (Locks::default(), Protected::new());
        let holder = {
            let (locks, protected) = (locks.clone(), protected.clone());
            thread::spawn(move || {
                let held = locks.lock(1, Mode::Exclusive);
                protected.write();
                locks.release(held);
            })
        };
        let fickle = {
            let locks = locks.clone();
            thread::spawn(move || match locks.ask(1, Mode::Exclusive) {
                Ok(held) => locks.release(held),
                Err(queued) => drop(locks.give_up(queued)),
            })
        };
        let held = locks.lock(1, Mode::Exclusive);
        protected.write();
        locks.release(held);
        holder.join().expect("no thread panics");
        fickle.join().expect("no thread panics");
        assert!(locks.is_empty());
    });
}

/// Who stands in the queue is served before whoever asks after it.
#[test]
fn who_waits_is_served_before_who_comes_later() {
    every_order(|| {
        let (locks, served) = (Locks::default(), Arc::new(AtomicUsize::new(0)));
        let first = locks.lock(1, Mode::Exclusive);
        let queued = locks.ask(1, Mode::Exclusive).expect_err("it is held");
        let later = {
            let (locks, served) = (locks.clone(), served.clone());
            thread::spawn(move || {
                let held = locks.lock(1, Mode::Exclusive);
                let before = served.fetch_add(1, Ordering::Relaxed);
                locks.release(held);
                before
            })
        };
        locks.release(first);
        let held = locks.wait(queued);
        assert_eq!(served.fetch_add(1, Ordering::Relaxed), 0, "overtaken");
        locks.release(held);
        assert_eq!(later.join().expect("no thread panics"), 1);
        assert!(locks.is_empty());
    });
}

#[test]
fn keys_that_share_a_bucket_do_not_share_a_lock() {
    every_order(|| {
        let locks = Locks::default();
        let held = locks.lock(1, Mode::Exclusive);
        let other = {
            let locks = locks.clone();
            thread::spawn(move || {
                let held = locks.lock(2, Mode::Exclusive);
                locks.release(held);
            })
        };
        other.join().expect("it waits for nobody");
        locks.release(held);
        assert!(locks.is_empty());
    });
}
