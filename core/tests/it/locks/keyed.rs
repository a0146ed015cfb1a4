//! `KeyedLock` without a bus.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use aftercommit::error::LockError;
use aftercommit::lock::{KeyedLock, Mode, Owner};
use aftercommit::testing::MovedClock;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::yield_now;

use super::poll_once;

const LONG: Duration = Duration::from_secs(3600);

fn locks() -> Arc<KeyedLock<u64>> {
    Arc::new(KeyedLock::new())
}

/// Waits until so many requests stand in a queue.
fn wait_for_queue(locks: &KeyedLock<u64>, waiting: usize) {
    while locks.view().iter().map(|locked| locked.waiters.len()).sum::<usize>() < waiting {
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_key_has_one_holder_and_others_are_free() {
    let locks = locks();
    let held = locks.lock(1).await;
    assert!(locks.try_lock(1).is_none());
    let other = locks.try_lock(2).expect("another key is free");
    assert_eq!(locks.len(), 2);
    drop((held, other));
    assert!(locks.is_empty());
    drop(locks.try_lock(1).expect("free again"));
}

#[test]
fn tasks_and_threads_wait_in_one_queue_in_the_order_they_came() {
    let locks = locks();
    let order = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let first = locks.lock_blocking(1);
    let mut threads = Vec::new();
    let mut tasks = Vec::new();
    for number in 0..8 {
        let (locks, order) = (locks.clone(), order.clone());
        if number % 2 == 0 {
            let locks = locks.clone();
            threads.push(thread::spawn(move || {
                let _held = locks.lock_blocking(1);
                order.lock().push(number);
            }));
        } else {
            let locks = locks.clone();
            tasks.push(runtime.spawn(async move {
                let _held = locks.lock(1).await;
                order.lock().push(number);
            }));
        }
        wait_for_queue(&locks, number + 1);
    }
    assert!(order.lock().is_empty());
    drop(first);
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>());
    assert!(locks.is_empty());
}

#[tokio::test]
async fn nobody_overtakes_who_waits() {
    let locks = locks();
    let first = locks.lock(1).await;
    let mut second = Box::pin(locks.lock(1));
    assert!(poll_once(&mut second).await.is_none());
    drop(first);
    // It is handed over already, though who waits has not looked yet.
    assert!(locks.try_lock(1).is_none());
    drop(second.await);
    assert!(locks.is_empty());
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over_and_says_who_holds_the_key() {
    let clock = MovedClock::default();
    let locks: KeyedLock<u64> = KeyedLock::new().clock(Arc::new(clock.clone()));
    let owner = Owner::named("nightly import");
    let held = locks.request(7).by(&owner).wait().await.expect("free");
    let mut late = Box::pin(locks.request(7).within(Duration::from_secs(5)).wait());
    assert!(poll_once(&mut late).await.is_none());
    clock.advance(Duration::from_millis(4999));
    assert!(poll_once(&mut late).await.is_none());
    clock.advance(Duration::from_millis(1));
    match late.await {
        Err(error @ LockError::Timeout { .. }) => {
            let text = error.to_string();
            assert!(text.starts_with("lock `7` was not free within 5s; it is held by [nightly import, "), "{text}");
            assert!(text.contains("keyed.rs:"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    assert!(locks.is_empty());
    let counts = locks.counts();
    assert_eq!((counts.taken, counts.waited, counts.given_up, counts.timed_out), (1, 1, 1, 1));
}

#[test]
fn a_thread_waits_as_long_as_it_says() {
    let locks = locks();
    let held = locks.lock_blocking(1);
    let late = locks.request(1).within(Duration::from_millis(5)).wait_blocking();
    assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
    drop(held);
    drop(locks.request(1).within(LONG).wait_blocking().expect("free"));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn a_key_handed_over_as_its_time_ends_is_obtained() {
    let clock = MovedClock::default();
    let locks: KeyedLock<u64> = KeyedLock::new().clock(Arc::new(clock.clone()));
    let held = locks.lock(1).await;
    let mut waiting = Box::pin(locks.request(1).within(Duration::from_secs(1)).wait());
    assert!(poll_once(&mut waiting).await.is_none());
    drop(held);
    clock.advance(Duration::from_secs(1));
    drop(waiting.await.expect("it was handed over"));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn sharers_hold_a_key_together_and_wait_behind_who_wants_it_alone() {
    let locks = locks();
    let one = locks.request(1).shared().wait().await.expect("free");
    let two = locks.request(1).shared().now().expect("shared");
    assert!(locks.try_lock(1).is_none());
    let mut alone = Box::pin(locks.lock(1));
    assert!(poll_once(&mut alone).await.is_none());
    assert!(locks.request(1).shared().now().is_none(), "the one who wants it alone came first");
    let mut three = Box::pin(locks.request(1).shared().wait());
    let mut four = Box::pin(locks.request(1).shared().wait());
    assert!(poll_once(&mut three).await.is_none());
    assert!(poll_once(&mut four).await.is_none());
    let seen = locks.view();
    assert_eq!((seen[0].mode, seen[0].holders.len(), seen[0].waiters.len()), (Mode::Shared, 2, 3));
    drop((one, two));
    let alone = alone.await;
    assert!(poll_once(&mut three).await.is_none());
    drop(alone);
    let (three, four) = (three.await.expect("its turn"), four.await.expect("beside it"));
    drop((three, four));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn who_shares_goes_on_when_the_one_before_it_gives_up() {
    let locks = locks();
    let one = locks.request(1).shared().wait().await.expect("free");
    let mut alone = Box::pin(locks.lock(1));
    let mut two = Box::pin(locks.request(1).shared().wait());
    assert!(poll_once(&mut alone).await.is_none());
    assert!(poll_once(&mut two).await.is_none());
    drop(alone);
    drop(two.await.expect("nothing is in its way any more"));
    drop(one);
    assert!(locks.is_empty());
}

#[test]
fn several_keys_are_taken_in_one_order_whatever_order_they_are_given_in() {
    let locks = locks();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let locks = locks.clone();
            thread::spawn(move || {
                for _ in 0..500 {
                    let mut keys = vec![1, 2, 3, 2];
                    keys.rotate_left(number % 4);
                    let held = locks.request_all(keys).within(LONG).wait_blocking().expect("no circle");
                    assert_eq!(held.len(), 3, "a key that is given twice is taken once");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn several_keys_are_taken_all_or_none() {
    let locks = locks();
    let held = locks.lock(3).await;
    assert!(locks.request_all([1, 2, 3]).now().is_none());
    assert_eq!(locks.len(), 1, "those that were free are free again");
    let mut waiting = Box::pin(locks.request_all_owned([3, 1]).wait());
    assert!(poll_once(&mut waiting).await.is_none());
    assert_eq!(locks.len(), 2);
    drop(waiting);
    assert_eq!(locks.len(), 1);
    drop(held);
}

#[tokio::test]
async fn owned_guards_borrow_nothing() {
    let locks = locks();
    let guard = locks.clone().lock_owned(1).await;
    let moved = tokio::spawn(async move {
        yield_now().await;
        drop(guard);
    });
    moved.await.expect("no task panics");
    assert!(locks.is_empty());
}

/// A wait dropped after any number of polls, before and after the key was handed to it, leaves nothing behind and nobody waiting.
#[tokio::test]
async fn a_wait_dropped_at_any_await_point_leaves_nothing_behind() {
    for shared in [false, true] {
        for polls in 0..4 {
            for hand_over in [false, true] {
                let locks = locks();
                let request = || if shared { locks.request_owned(1).shared() } else { locks.request_owned(1) };
                let held = locks.lock(1).await;
                let mut given_up = Box::pin(request().within(LONG).wait());
                for _ in 0..polls {
                    assert!(poll_once(&mut given_up).await.is_none());
                }
                let mut patient = Box::pin(request().wait());
                assert!(poll_once(&mut patient).await.is_none());
                if hand_over {
                    drop(held);
                    drop(given_up);
                } else {
                    drop(given_up);
                    drop(held);
                }
                let patient = patient.now_or_never().expect("its turn has come").expect("without end");
                assert_eq!(locks.len(), 1);
                drop(patient);
                assert!(locks.is_empty(), "{shared} {polls} {hand_over}");
            }
        }
    }
}

#[tokio::test]
async fn a_panic_releases_what_was_held() {
    let locks = locks();
    let panicking = {
        let locks = locks.clone();
        tokio::spawn(async move {
            let _held = locks.lock(1).await;
            panic!("out of paper");
        })
    };
    assert!(panicking.await.is_err());
    assert!(locks.is_empty());
}

#[tokio::test]
async fn owners_that_wait_in_a_circle_are_told_with_their_names_and_the_others_go_on() {
    let locks = locks();
    let owners = ["order 1", "order 2", "order 3"].map(Owner::named);
    let request = |key: u64, owner: &Owner| locks.request_owned(key).by(owner);
    let mut held: VecDeque<_> = VecDeque::new();
    for (key, owner) in (1..).zip(&owners) {
        held.push_back(request(key, owner).wait().await.expect("free"));
    }
    let mut first = Box::pin(request(2, &owners[0]).wait());
    let mut second = Box::pin(request(3, &owners[1]).wait());
    assert!(poll_once(&mut first).await.is_none());
    assert!(poll_once(&mut second).await.is_none());
    let error = request(1, &owners[2]).wait().await.expect_err("a circle");
    let LockError::Deadlock { circle } = &error else { panic!("{error}") };
    let told: Vec<(&str, &str, &str)> = circle
        .iter()
        .map(|one| {
            let name = |text: &'_ str| text.find(',').unwrap_or(0);
            (&one.who[..name(&one.who)], &*one.key, &one.held_by[..name(&one.held_by)])
        })
        .collect();
    assert_eq!(told, [("order 3", "1", "order 1"), ("order 1", "2", "order 2"), ("order 2", "3", "order 3")]);
    // The one that was told gives up what it holds; the others get on.
    held.pop_back();
    let second = second.await.expect("its turn");
    held.pop_back();
    drop((second, first.await.expect("its turn")));
    held.clear();
    assert!(locks.is_empty());
    assert_eq!(locks.counts().deadlocks, 1);
}

#[tokio::test]
async fn a_circle_through_who_shares_is_found() {
    let locks = locks();
    let (reader, writer) = (Owner::named("reader"), Owner::named("writer"));
    let bystander = Owner::named("bystander");
    let shared = locks.request(1).shared().by(&reader).wait().await.expect("free");
    let beside = locks.request(1).shared().by(&bystander).wait().await.expect("shared");
    let written = locks.request(2).by(&writer).wait().await.expect("free");
    let mut waiting = Box::pin(locks.request(1).by(&writer).wait());
    assert!(poll_once(&mut waiting).await.is_none());
    let error = locks.request(2).by(&reader).wait().await.expect_err("a circle");
    assert!(matches!(&error, LockError::Deadlock { circle } if circle.len() == 2), "{error}");
    drop((shared, beside));
    drop((waiting.await.expect("its turn"), written));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn waits_without_a_circle_are_no_deadlock() {
    let locks = locks();
    let owners = ["a", "b", "c"].map(Owner::named);
    let one = locks.request(1).by(&owners[0]).wait().await.expect("free");
    let two = locks.request(2).by(&owners[1]).wait().await.expect("free");
    let mut second = Box::pin(locks.request(1).by(&owners[1]).wait());
    let mut third = Box::pin(locks.request(2).by(&owners[2]).wait());
    assert!(poll_once(&mut second).await.is_none());
    assert!(poll_once(&mut third).await.is_none());
    drop(one);
    drop((second.await.expect("its turn"), two));
    drop(third.await.expect("its turn"));
    // One that waited before and holds nothing closes no circle.
    assert_eq!((locks.counts().deadlocks, locks.len()), (0, 0));
}

#[tokio::test]
async fn an_owner_is_told_that_it_holds_the_key_itself() {
    let locks = locks();
    let owner = Owner::named("import");
    let _held = locks.request(1).by(&owner).wait().await.expect("free");
    assert!(matches!(locks.request(1).by(&owner).wait().await, Err(LockError::Reentrant)));
    let _shared = locks.request(2).shared().by(&owner).wait().await.expect("free");
    assert!(matches!(locks.request(2).by(&owner).wait().await, Err(LockError::Upgrade { .. })));
}

#[tokio::test]
async fn waits_are_told_to_the_watcher_and_what_was_free_is_not() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let locks: KeyedLock<u64> = KeyedLock::new().watcher(move |waited| to.lock().push(waited.obtained));
    let held = locks.lock(1).await;
    let mut second = Box::pin(locks.lock(1));
    let mut third = Box::pin(locks.lock(1));
    assert!(poll_once(&mut second).await.is_none() && poll_once(&mut third).await.is_none());
    drop(third);
    drop(held);
    drop(second.await);
    assert_eq!(*told.lock(), [false, true]);
}

/// What one key protects: nobody is inside while another is, and a counter that is not atomic comes out right.
#[derive(Default)]
struct Protected {
    inside: AtomicBool,
    count: AtomicU64,
}

impl Protected {
    fn enter(&self) {
        assert!(!self.inside.swap(true, Ordering::Relaxed), "two are inside");
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn leave(&self) {
        assert!(self.inside.swap(false, Ordering::Relaxed));
    }
}

/// 64 tasks and 4 threads over so many keys.
async fn crowd(keys: u64, each: u64) {
    let locks = locks();
    let protected: Arc<Vec<Protected>> = Arc::new((0..keys).map(|_| Protected::default()).collect());
    let key_of = move |who: u64, round: u64| (who * 7919 + round * 104_729) % keys;
    let tasks: Vec<_> = (0..64)
        .map(|who| {
            let (locks, protected) = (locks.clone(), protected.clone());
            tokio::spawn(async move {
                for round in 0..each {
                    let key = key_of(who, round);
                    let held = locks.lock(key).await;
                    protected[key as usize].enter();
                    if round % 3 == 0 {
                        yield_now().await;
                    }
                    protected[key as usize].leave();
                    drop(held);
                }
            })
        })
        .collect();
    let threads: Vec<_> = (64..68)
        .map(|who| {
            let (locks, protected) = (locks.clone(), protected.clone());
            thread::spawn(move || {
                for round in 0..each {
                    let key = key_of(who, round);
                    let _held = locks.lock_blocking(key);
                    protected[key as usize].enter();
                    protected[key as usize].leave();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("mutual exclusion");
    }
    threads.into_iter().for_each(|thread| thread.join().expect("mutual exclusion"));
    let entered: u64 = protected.iter().map(|one| one.count.load(Ordering::Relaxed)).sum();
    assert_eq!(entered, 68 * each);
    assert!(locks.is_empty(), "nothing is left behind");
    assert_eq!(locks.counts().taken, 68 * each);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_over_ten_thousand_keys_exclude_each_other_and_leave_nothing() {
    crowd(10_000, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_over_one_key_exclude_each_other_and_leave_nothing() {
    crowd(1, 50).await;
}

/// While one waits, each of the others is served at most once: with 64 who ask again and again, at most 63 come before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_overtaken_by_nobody_twice() {
    let locks = locks();
    let served = Arc::new(AtomicUsize::new(0));
    let worst = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (locks, served, worst) = (locks.clone(), served.clone(), worst.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let mut asking = Box::pin(locks.lock_owned(1));
                    let at_once = poll_once(&mut asking).await;
                    // Read once it stands in the queue: who is counted later was served while it waited.
                    let before = served.load(Ordering::SeqCst);
                    let _held = match at_once {
                        Some(held) => held,
                        None => asking.await,
                    };
                    let now = served.fetch_add(1, Ordering::SeqCst);
                    worst.fetch_max(now.saturating_sub(before), Ordering::SeqCst);
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    let worst = worst.load(Ordering::SeqCst);
    assert!(worst <= 63, "{worst} came before one who waited");
    assert!(locks.is_empty());
}

/// A key that is handed over while its wait is being noted is no circle; nor is one that sharers hold together.
#[test]
fn owners_that_pass_a_key_on_to_each_other_are_in_no_circle() {
    let locks = locks();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let locks = locks.clone();
            thread::spawn(move || {
                let owner = Owner::named(format!("owner {number}"));
                for round in 0..2_000 {
                    let request = locks.request(1).by(&owner);
                    let request = if round % 4 == number { request.shared() } else { request };
                    drop(request.wait_blocking().expect("no circle"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    assert!(locks.is_empty());
}
