//! Simulation: an application with its listeners, run again and again in ways that a seed decides.
//!
//! A [`Sim`] runs an application on one thread, on a store in memory, with time that passes only when nothing else is left to do.
//! Wherever the application waits for the store, the seed decides who goes on next, when a commit answers, which worker hears of
//! it first, which storage fault it meets, and when the process dies: everything stops where it is, and what a kill or a power cut
//! may leave is opened by the next life. The same seed is the same run, event for event ([`Sim::trace`]).
//!
//! ```
//! use aftercommit::prelude::*;
//! use aftercommit::testing::sim::{self, Sim};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(name = "shop.paid")]
//! struct Paid { cents: i64 }
//!
//! const REVENUE: Counters<u8> = Counters::new("shop.revenue");
//!
//! #[listener(durable, id = "shop.revenue")]
//! fn add_revenue(event: &Paid, tx: &mut Tx) -> Result<(), Error> {
//!     REVENUE.add(tx, &0, event.cents)
//! }
//!
//! // `#[sim_test]` writes this call.
//! sim::check("revenue_is_counted_once", 20, |sim: &mut Sim| {
//!     let mut paid = 0; // the world outside: it survives crashes
//!     let revenue = sim.lives(async |life| {
//!         let bus = life.bus().listeners(listed![add_revenue]).start().await.ok()?;
//!         while paid < 3 {
//!             if bus.transaction(async |tx| tx.publish(Paid { cents: 5 })).await.is_ok() {
//!                 paid += 1;
//!             }
//!         }
//!         bus.idle().await;
//!         REVENUE.get(&mut bus.reader().ok()?, &0).ok()
//!     });
//!     // A crash may come between a commit and its answer, so that the world outside knows of fewer.
//!     assert!(revenue.is_none_or(|cents| cents >= 15 && cents % 5 == 0));
//! });
//! ```
//!
//! # How far it is the same
//! Everything the bus does is decided by the seed: it draws its ids, its jitter and its order from it. A `blocking` listener runs on
//! the one thread there is. The store is the embedded one above its engine, which commits in the caller's turn: there is no committing
//! thread, no group of several units, and no journal, for which there are others
//! (the power-cut replay, and the tests that kill a process).
//! What the application itself asks a thread, a socket, the machine's clock or another source of chance is its own: it asks
//! [`Life::draw`] and the bus's clock instead. Tokio's timers run on the simulated time; `tokio::select!` needs `biased;`, and tokio's
//! `watch` channels wake several receivers in an order of their own, as does iterating over a `HashMap`.
//! A task that spins instead of waiting is never interrupted.

mod check;
mod clock;
mod disk;
mod life;
mod store;
mod world;

pub use check::check;
pub use clock::SimClock;
pub use life::Life;
pub use world::Trouble;

use std::sync::Arc;
use std::time::Duration;

use disk::SimDisk;
use world::World;

use crate::clock::{Clock, SystemClock};

/// One run of an application, decided by a seed. See the [module](self).
#[derive(Debug)]
pub struct Sim {
    world: Arc<World>,
    disk: Arc<SimDisk>,
    seed: u64,
    lives: usize,
}

/// How a life ended.
enum Ended<T> {
    /// By itself.
    Answered(T),
    Crashed,
    /// Nothing was left that could happen.
    Stuck,
}

/// Nothing happens for so long: nothing ever will.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Sim {
    /// A run decided by `seed`, on an empty store, with the default [`Trouble`].
    pub fn new(seed: u64) -> Self {
        Self { world: Arc::new(World::new(seed)), disk: Arc::default(), seed, lives: 0 }
    }

    /// What decides this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What may go wrong from now on.
    pub fn trouble(&mut self, trouble: Trouble) {
        self.world.trouble(trouble);
    }

    /// Nothing goes wrong from now on; who goes on next is still decided by the seed.
    pub fn calm(&mut self) {
        self.world.trouble(Trouble::NONE);
    }

    /// Runs a life of the application after the other, on what the one before left on the disk, until one ends by itself; answers
    /// what it answered. What `body` borrows from outside is the world outside: it survives crashes.
    ///
    /// A life whose store was given up, by a commit in doubt, counts as crashed, whatever it answered: so would the process end.
    ///
    /// # Panics
    /// If nothing is left that could happen and the life has not ended, and if more happens than a million choices.
    pub fn lives<T>(&mut self, mut body: impl AsyncFnMut(Life) -> T) -> T {
        loop {
            if let Some(answer) = self.live(&mut body) {
                return answer;
            }
        }
    }

    /// One life; `None` if it crashed.
    fn live<T>(&mut self, body: &mut impl AsyncFnMut(Life) -> T) -> Option<T> {
        let (world, disk) = (self.world.clone(), self.disk.clone());
        world.begin(self.lives);
        self.lives += 1;
        let idle = world.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .on_thread_park(move || idle.choose())
            .build();
        let runtime = runtime.unwrap_or_else(|error| panic!("a runtime for the simulation: {error}"));
        let ended = runtime.block_on(async {
            world.time_begins();
            let life = Life::open(world.clone(), disk.clone(), self.lives - 1);
            let given_up = life.clone();
            let ended = tokio::select! {
                biased;
                () = world.crashed() => Ended::Crashed,
                answer = body(life) => match given_up.is_given_up() {
                    true => Ended::Crashed,
                    false => Ended::Answered(answer),
                },
                () = SystemClock.sleep(FOR_EVER) => Ended::Stuck,
            };
            world.time_ends();
            ended
        });
        // Taken before the tasks are dropped: what they still do on their way out is of another world.
        self.disk = Arc::new(match ended {
            Ended::Crashed => disk.after_crash(&world),
            _ => disk.as_it_is(),
        });
        drop(runtime);
        match ended {
            Ended::Answered(answer) => Some(answer),
            Ended::Crashed => None,
            Ended::Stuck => panic!("the simulation is stuck: everything waits, and nothing is left that could happen"),
        }
    }

    /// What happened so far, a line each: time in milliseconds, and what was chosen, noticed or [noted](Life::note).
    /// The same seed gives the same lines.
    pub fn trace(&self) -> Vec<String> {
        self.world.trace()
    }

    /// How many lives there were.
    pub fn count_lives(&self) -> usize {
        self.lives
    }

    /// How many crashes and faults came, in all.
    pub fn count_troubles(&self) -> usize {
        self.world.troubles()
    }
}
