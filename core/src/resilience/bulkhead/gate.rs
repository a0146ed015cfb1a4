//! So many at once; the others wait in line. It knows no clock and no error.
//!
//! Who is in and who waits is one word, so that a free place costs one exchange and no waiter is overlooked: nobody comes in past
//! one who waits, and whoever leaves while somebody waits hands its place over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::sync::{AtomicU64, Mutex, Ordering};

#[derive(Debug)]
pub(crate) struct Gate {
    /// Who is in, and above [`WAITS`] who waits.
    word: AtomicU64,
    limit: AtomicU64,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
}

const WAITS: u64 = 1 << 32;

fn inside(word: u64) -> u64 {
    word & (WAITS - 1)
}

fn waiting(word: u64) -> u64 {
    word / WAITS
}

impl Gate {
    pub(crate) fn new(limit: u32) -> Self {
        Self { word: AtomicU64::new(0), limit: AtomicU64::new(u64::from(limit)), line: Mutex::new(Line::default()) }
    }

    /// Comes in if there is a place and nobody waits for it.
    #[inline]
    pub(crate) fn try_enter(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word >= self.limit.load(Ordering::Relaxed) {
                // Full, or somebody waits: their count stands above any limit.
                return false;
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
    }

    /// Goes out.
    #[inline]
    pub(crate) fn leave(&self) {
        let before = self.word.fetch_sub(1, Ordering::AcqRel);
        if waiting(before) > 0 {
            self.hand_over();
        }
    }

    /// Stands in line, or comes in if that is not needed any more.
    pub(crate) fn queue(&self) -> Queued<'_> {
        let mut line = self.line.lock();
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let free = word < self.limit.load(Ordering::Acquire);
            let after = if free { word + 1 } else { word + WAITS };
            match self.word.compare_exchange(word, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if free => return Queued { gate: self, place: Place::Free },
                Ok(_) => break,
                Err(other) => word = other,
            }
        }
        let (call, called) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.waiters.push_back((number, call));
        Queued { gate: self, place: Place::InLine(number, called) }
    }

    /// Another number of places; who is in stays in.
    pub(crate) fn resize(&self, limit: u32) {
        self.limit.store(u64::from(limit), Ordering::SeqCst);
        self.hand_over();
    }

    /// How many are in.
    pub(crate) fn inside(&self) -> u32 {
        inside(self.word.load(Ordering::Relaxed)) as u32
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.word.load(Ordering::Relaxed)) as u32
    }

    #[cold]
    fn hand_over(&self) {
        let mut line = self.line.lock();
        let mut word = self.word.load(Ordering::Acquire);
        while !line.waiters.is_empty() && inside(word) < self.limit.load(Ordering::Acquire) {
            match self.word.compare_exchange(word, word + 1 - WAITS, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if let Some((_, call)) = line.waiters.pop_front() {
                        // Whoever goes away takes itself out of the line before, or gives the place back.
                        let _ = call.send(());
                    }
                    word = self.word.load(Ordering::Acquire);
                }
                Err(other) => word = other,
            }
        }
    }

    fn give_up(&self, number: u64, called: &mut oneshot::Receiver<()>) {
        let mut line = self.line.lock();
        if let Some(at) = line.waiters.iter().position(|(waiter, _)| *waiter == number) {
            line.waiters.remove(at);
            self.word.fetch_sub(WAITS, Ordering::AcqRel);
            return;
        }
        drop(line);
        if called.try_recv().is_ok() {
            self.leave();
        }
    }
}

/// Somebody in line; completes once it is in. Dropped before, it gives its place up.
#[derive(Debug)]
pub(crate) struct Queued<'a> {
    gate: &'a Gate,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// There was one, which is held.
    Free,
    /// It is waited for.
    InLine(u64, oneshot::Receiver<()>),
    /// Who waited has it.
    Taken,
}

impl Future for Queued<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Place::InLine(_, called) = &mut self.place
            && Pin::new(called).poll(context).is_pending()
        {
            return Poll::Pending;
        }
        self.place = Place::Taken;
        Poll::Ready(())
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.place, Place::Taken) {
            Place::Free => self.gate.leave(),
            Place::InLine(number, mut called) => self.gate.give_up(number, &mut called),
            Place::Taken => {}
        }
    }
}
