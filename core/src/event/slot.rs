//! An event type's place in the registry.

use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A small number for each event type, given out at its first use in this process.
///
/// The derive puts one into a static beside the type, so that a publish finds its listeners by index.
#[derive(Debug)]
pub struct EventSlot(AtomicU32);

impl EventSlot {
    /// A slot without a number yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The number; given out now if it has none.
    #[inline]
    pub fn index(&self) -> usize {
        match self.0.load(Ordering::Relaxed) {
            0 => self.assign(),
            index => index as usize,
        }
    }

    /// The number, or 0 if none was given out; no type has that one.
    #[inline]
    pub(crate) fn given(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }

    #[cold]
    fn assign(&self) -> usize {
        let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.0.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh as usize,
            Err(taken) => taken as usize,
        }
    }
}
