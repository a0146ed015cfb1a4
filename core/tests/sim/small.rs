//! What a simulation promises, in small.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use aftercommit::clock::Clock;
use aftercommit::prelude::*;
use aftercommit::sim_test;
use aftercommit::testing::sim::{self, Life, Sim, Trouble};
use serde::{Deserialize, Serialize};

const ROWS: Table<u32, u32> = Table::new("small.rows");

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "small.happened")]
struct Happened;

/// A life, one after the other, until one ends by itself.
#[sim_test(seeds = 30)]
async fn what_was_committed_is_there_in_the_next_life(life: Life) {
    let Ok(bus) = life.bus().start().await else { return };
    let mut next = 0;
    while ROWS.contains(&mut bus.reader().expect("a reader"), &next).expect("readable") {
        next += 1;
    }
    for row in next..8 {
        // A unit that fails leaves nothing, so that there are no holes.
        if bus.transaction(async |tx| ROWS.put(tx, &row, &row)).await.is_err() {
            return;
        }
    }
    let rows: Vec<(u32, u32)> =
        ROWS.iter(&mut bus.reader().expect("a reader")).collect::<Result<_, _>>().expect("rows");
    assert_eq!(rows, (0..8).map(|row| (row, row)).collect::<Vec<_>>());
}

#[test]
fn a_crash_comes_before_a_commit_between_it_and_its_answer_and_after_it() {
    let seen = RefCell::new(BTreeSet::new());
    sim::check("crashes", 200, |sim: &mut Sim| {
        sim.trouble(Trouble { crashes: 1, ..Trouble::NONE });
        let answered = Cell::new(false);
        let stood = sim.lives(async |life| {
            let bus = life.bus().start().await.expect("the bus starts");
            if life.number() == 0 {
                bus.transaction(async |tx| ROWS.put(tx, &1, &1)).await.expect("committed");
                answered.set(true);
                life.turn("something else").await;
                life.turn("something else").await;
            }
            ROWS.contains(&mut bus.reader().expect("a reader"), &1).expect("readable")
        });
        assert!(stood || !answered.get(), "what was answered stands");
        if sim.count_lives() == 2 {
            seen.borrow_mut().insert((stood, answered.get()));
        }
    });
    assert_eq!(*seen.borrow(), BTreeSet::from([(false, false), (true, false), (true, true)]));
}

#[test]
fn what_is_less_durable_may_be_lost_in_a_crash_and_never_before_what_came_earlier() {
    let left = RefCell::new(BTreeSet::new());
    sim::check("lost", 120, |sim: &mut Sim| {
        sim.trouble(Trouble { crashes: 1, ..Trouble::NONE });
        let rows: Vec<u32> = sim.lives(async |life| {
            let bus = life.bus().durability(Durability::Flush).start().await.expect("the bus starts");
            if life.number() == 0 {
                for row in 0..6 {
                    bus.transaction(async |tx| ROWS.put(tx, &row, &row)).await.expect("committed");
                }
                for _ in 0..600 {
                    life.turn("waits for the crash").await;
                }
            }
            ROWS.iter(&mut bus.reader().expect("a reader")).map(|row| row.expect("readable").0).collect()
        });
        assert_eq!(rows, (0..rows.len() as u32).collect::<Vec<_>>(), "no holes");
        left.borrow_mut().insert(rows.len());
    });
    assert!(left.borrow().len() > 4, "{left:?}");
}

/// Tokio's timers and the bus's clock show one time, and a day takes none.
#[sim_test(seeds = 3)]
fn time_passes_when_nothing_else_is_left_to_do(sim: &mut Sim) {
    sim.calm();
    let day = Duration::from_secs(86_400);
    let mut before = None;
    for _ in 0..2 {
        let (from, to) = sim.lives(async |life| {
            let clock = life.clock();
            let from = clock.now();
            tokio::time::sleep(day).await;
            clock.sleep(day).await;
            (from, clock.now())
        });
        assert_eq!(to.since(from), 2 * day);
        assert_eq!(before.unwrap_or(from), from, "it goes on in the next life");
        before = Some(to);
    }
}

#[listener(phase = AfterCommit, blocking)]
fn block(_event: &Happened, life: State<Life>) {
    life.note(format!("on {:?}", std::thread::current().id()));
}

#[sim_test(seeds = 3)]
fn a_blocking_listener_runs_on_the_one_thread(sim: &mut Sim) {
    sim.calm();
    sim.lives(async |life| {
        let bus = life.bus().state(life.clone()).listeners(listed![block]).start().await.expect("the bus starts");
        bus.transaction(async |tx| tx.publish(Happened)).await.expect("committed");
        bus.idle().await;
    });
    let here = format!("on {:?}", std::thread::current().id());
    assert!(sim.trace().iter().any(|line| line.ends_with(&here)), "{:?}", sim.trace());
}

#[test]
fn a_simulation_that_is_stuck_says_so() {
    let stuck = catch_unwind(AssertUnwindSafe(|| Sim::new(1).lives(async |_| std::future::pending::<()>().await)));
    let panic = stuck.expect_err("nothing can happen");
    assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("is stuck")));
}

#[test]
fn the_seed_that_fails_is_the_panic_of_the_check() {
    let tried = RefCell::new(Vec::new());
    let failed = catch_unwind(AssertUnwindSafe(|| {
        sim::check("fails", 10, |sim: &mut Sim| {
            tried.borrow_mut().push(sim.seed());
            assert!(sim.seed() < 3, "seed {} fails", sim.seed());
        });
    }));
    let panic = failed.expect_err("it fails");
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("seed 3 fails"));
    assert_eq!(*tried.borrow(), [0, 1, 2, 3]);
}
