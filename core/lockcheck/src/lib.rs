//! The lock table of `aftercommit`, on mutexes whose every order can be tried.
//!
//! The table's own source is compiled here, with `loom` in the place of its mutex. What is tried stands in `tests`.

#[path = "../../src/lock/table.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod table;

/// What the table stands on.
mod sync {
    /// loom's mutex in the manner of `parking_lot`'s.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            // A panic ends the run anyway.
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }
}

use std::task::{Wake, Waker};

use loom::sync::Arc;
use loom::thread::{self, Thread};

pub use table::Mode;
use table::{Asked, Left, Party, Place, Table};

/// Nobody in particular.
#[derive(Debug, Clone, Copy)]
struct Nobody;

impl Party for Nobody {
    fn is_same(&self, _: &Self) -> bool {
        false
    }
}

/// The lock of each key, for threads of loom.
#[derive(Clone)]
pub struct Locks(Arc<Table<u8, Nobody>>);

/// A held key; released by [`Locks::release`].
#[derive(Debug)]
pub struct Held(Place);

/// A place in a queue.
pub struct Queued(Place, Waker);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

impl Default for Locks {
    fn default() -> Self {
        // One bucket, so that keys meet in it, and always the same one.
        Self(Arc::new(Table::new(1)))
    }
}

impl Locks {
    /// The key, or a place in its queue.
    ///
    /// # Errors
    /// The place.
    pub fn ask(&self, key: u8, mode: Mode) -> Result<Held, Queued> {
        let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
        match self.0.ask(key, mode, Nobody, Some(&waker)) {
            Asked::Held(place) => Ok(Held(place)),
            Asked::Queued(place) => Err(Queued(place, waker)),
            other => unreachable!("{other:?}"),
        }
    }

    /// Waits for the key as a thread does.
    pub fn lock(&self, key: u8, mode: Mode) -> Held {
        self.ask(key, mode).unwrap_or_else(|queued| self.wait(queued))
    }

    /// Waits until the key is handed over.
    pub fn wait(&self, queued: Queued) -> Held {
        while !self.0.is_held(queued.0, &queued.1) {
            thread::park();
        }
        Held(queued.0)
    }

    /// Gives the place up, as a wait that is dropped does; answers whether the key had been handed over.
    pub fn give_up(&self, queued: Queued) -> bool {
        let held = self.0.leave(queued.0) == Left::Held;
        if held {
            self.0.release(queued.0);
        }
        held
    }

    /// Gives the key up.
    pub fn release(&self, held: Held) {
        self.0.release(held.0);
    }

    /// How many keys are held or waited for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
