//! What waits for one subscriber: bounded, and what did not fit is counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A subscriber was too slow: its oldest events gave way to newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("missed {missed} events, as they came faster than they were read")]
pub struct Lagged {
    /// How many since the last item.
    pub missed: u64,
}

/// The events that wait for one subscriber.
///
/// Nothing that others wrote runs while it is locked: what it lets go of is handed out, and keys are made before.
pub(super) struct Mailbox<E>(Mutex<Waiting<E>>);

struct Waiting<E> {
    events: VecDeque<Arc<E>>,
    /// Where they wait instead, once only the newest of each key is wanted; behind those that came before that.
    latest: Option<Latest<E>>,
    capacity: usize,
    missed: u64,
    ended: bool,
    reader: Option<Waker>,
}

/// The newest event of each key, in the order in which the keys began to wait.
struct Latest<E> {
    keys: VecDeque<Arc<[u8]>>,
    events: HashMap<Arc<[u8]>, Arc<E>>,
}

/// What a mailbox lets go of: to be dropped, and woken, where nothing is locked.
pub(super) struct Left<E> {
    _gave_way: Option<Arc<E>>,
    reader: Option<Waker>,
}

impl<E> Left<E> {
    pub(super) fn wake(self) {
        if let Some(reader) = self.reader {
            reader.wake();
        }
    }
}

impl<E> Waiting<E> {
    fn len(&self) -> usize {
        self.events.len() + self.latest.as_ref().map_or(0, |latest| latest.keys.len())
    }

    fn pop(&mut self) -> Option<Arc<E>> {
        self.events.pop_front().or_else(|| {
            let latest = self.latest.as_mut()?;
            let key = latest.keys.pop_front()?;
            latest.events.remove(&key)
        })
    }

    /// Lets the oldest go if there are too many.
    fn make_room(&mut self) -> Option<Arc<E>> {
        if self.len() <= self.capacity {
            return None;
        }
        self.missed += 1;
        self.pop()
    }
}

impl<E> Mailbox<E> {
    pub(super) fn new(capacity: usize) -> Self {
        let events = VecDeque::new();
        Self(Mutex::new(Waiting { events, latest: None, capacity, missed: 0, ended: false, reader: None }))
    }

    /// Keeps at most `capacity` events from now on.
    pub(super) fn set_capacity(&self, capacity: usize) {
        self.0.lock().capacity = capacity;
        loop {
            let gave_way = self.0.lock().make_room();
            if gave_way.is_none() {
                return;
            }
        }
    }

    /// Keeps only the newest of each key from now on.
    pub(super) fn keep_latest(&self) {
        let empty = || Latest { keys: VecDeque::new(), events: HashMap::new() };
        self.0.lock().latest.get_or_insert_with(empty);
    }

    /// Whether [`put`](Self::put) is to be told the key.
    pub(super) fn wants_key(&self) -> bool {
        self.0.lock().latest.is_some()
    }

    /// An event has come. Without its key, which was not wanted when this was asked, it waits among all the others.
    pub(super) fn put(&self, event: &Arc<E>, key: Option<&Arc<[u8]>>) -> Left<E> {
        let mut waiting = self.0.lock();
        let replaced = match (&mut waiting.latest, key) {
            (Some(latest), Some(key)) => {
                let replaced = latest.events.insert(key.clone(), event.clone());
                if replaced.is_none() {
                    latest.keys.push_back(key.clone());
                }
                replaced
            }
            _ => {
                waiting.events.push_back(event.clone());
                None
            }
        };
        // What was replaced made room already.
        let gave_way = replaced.or_else(|| waiting.make_room());
        Left { _gave_way: gave_way, reader: waiting.reader.take() }
    }

    /// Nothing more comes; what waits can still be read.
    pub(super) fn end(&self) -> Left<E> {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        Left { _gave_way: None, reader: waiting.reader.take() }
    }

    /// The next event, after a word about those that were missed before it.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Arc<E>, Lagged>>> {
        let mut waiting = self.0.lock();
        if waiting.missed > 0 {
            return Poll::Ready(Some(Err(Lagged { missed: std::mem::take(&mut waiting.missed) })));
        }
        if let Some(event) = waiting.pop() {
            return Poll::Ready(Some(Ok(event)));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        let before = waiting.reader.replace(context.waker().clone());
        drop(waiting);
        drop(before);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mailbox: &Mailbox<u32>) -> Vec<Result<u32, u64>> {
        let mut context = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(item)) = mailbox.poll_next(&mut context) {
            read.push(item.map(|event| *event).map_err(|lagged| lagged.missed));
        }
        read
    }

    fn put(mailbox: &Mailbox<u32>, event: u32, key: Option<u8>) {
        let key = key.map(|key| Arc::from([key].as_slice()));
        mailbox.put(&Arc::new(event), key.as_ref()).wake();
    }

    #[test]
    fn the_oldest_gives_way_and_is_counted() {
        let mailbox = Mailbox::new(2);
        (1..=5).for_each(|event| put(&mailbox, event, None));
        assert_eq!(read(&mailbox), [Err(3), Ok(4), Ok(5)]);
        (6..=7).for_each(|event| put(&mailbox, event, None));
        mailbox.set_capacity(1);
        assert_eq!(read(&mailbox), [Err(1), Ok(7)]);
    }

    #[test]
    fn the_newest_of_each_key_waits_where_the_first_did() {
        let mailbox = Mailbox::new(3);
        put(&mailbox, 1, None);
        mailbox.keep_latest();
        for (event, key) in [(10, b'a'), (20, b'b'), (11, b'a'), (12, b'a')] {
            put(&mailbox, event, Some(key));
        }
        assert_eq!(read(&mailbox), [Ok(1), Ok(12), Ok(20)]);
        for (event, key) in [(1, b'a'), (2, b'b'), (3, b'c'), (4, b'd'), (5, b'b')] {
            put(&mailbox, event, Some(key));
        }
        assert_eq!(read(&mailbox), [Err(1), Ok(5), Ok(3), Ok(4)]);
    }

    #[test]
    fn what_waits_at_the_end_is_read() {
        let mailbox = Mailbox::new(2);
        put(&mailbox, 1, None);
        mailbox.end().wake();
        assert_eq!(read(&mailbox), [Ok(1)]);
        assert!(mailbox.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
