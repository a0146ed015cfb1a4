//! What the comparisons of stores share: the work, those who make it durable, and how they are measured.
//!
//! To add a contender: implement [`Groups`] or [`Units`] in a file of [`contenders`], and name it in its list.

pub mod contenders;
pub mod measure;
pub mod work;

pub use aftercommit_benches::{arguments, child};

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use work::Work;

/// Makes whole groups durable, called by one thread.
pub trait Groups: Send {
    /// Returns once the group survives a power cut.
    fn commit(&mut self, group: &[Work]);

    /// How many units it holds, counted in what it stored.
    fn units(&mut self) -> u64;
}

/// Makes single units durable, called by tasks.
pub trait Units: Send + Sync + 'static {
    /// Comes back once the unit survives a power cut.
    fn commit(&self, work: Work) -> BoxFuture<'static, ()>;

    /// How many of its events a listener beside the commits has settled; `None` if there is no listener.
    fn drained(&self) -> Option<u64> {
        None
    }

    /// The microseconds of processor time that other processes took for it.
    fn busy_elsewhere(&self) -> f64 {
        0.0
    }

    /// Ends it and answers how many units it holds, counted in what it stored.
    fn end(&self, runtime: &Runtime) -> u64;
}

/// A contender on an empty folder.
pub enum Opened {
    /// One that takes groups.
    Groups(Box<dyn Groups>),
    /// One that takes units.
    Units(Arc<dyn Units>),
}

/// One way to store units of work.
#[derive(Clone, Copy)]
pub struct Contender {
    /// What it is called.
    pub name: &'static str,
    /// Opens it in an empty folder, or says why it cannot be had.
    pub open: fn(&Path, &Runtime) -> Result<Opened, String>,
}

impl Contender {
    /// Those of `all` whose names hold `word`.
    pub fn chosen(word: &str, all: &[Self]) -> Vec<Self> {
        all.iter().filter(|contender| contender.name.contains(word)).copied().collect()
    }
}

impl Opened {
    /// As something that tasks may call: groups are made by a thread that takes what waits.
    pub fn for_tasks(self) -> Arc<dyn Units> {
        match self {
            Opened::Groups(groups) => Arc::new(Behind::start(groups)),
            Opened::Units(units) => units,
        }
    }
}

type Order = (Work, oneshot::Sender<()>);

/// A thread that takes all the units that wait and makes them durable as one group.
struct Behind(Mutex<Option<Thread>>);

/// Where units are handed over, and the thread, which gives the contender back.
type Thread = (mpsc::Sender<Order>, JoinHandle<Box<dyn Groups>>);

/// How many units make a group at most; as the bus does it.
const GROUP: usize = 256;

impl Behind {
    fn start(mut groups: Box<dyn Groups>) -> Self {
        let (hand_over, queue) = mpsc::channel::<Order>();
        let thread = std::thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                let (work, replies): (Vec<_>, Vec<_>) =
                    std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok()).take(GROUP - 1)).unzip();
                groups.commit(&work);
                for reply in replies {
                    reply.send(()).expect("somebody waits");
                }
            }
            groups
        });
        Self(Mutex::new(Some((hand_over, thread))))
    }
}

impl Units for Behind {
    fn commit(&self, work: Work) -> BoxFuture<'static, ()> {
        let (reply, answer) = oneshot::channel();
        let line = self.0.lock();
        line.as_ref().expect("it has not ended").0.send((work, reply)).expect("the thread lives");
        async move { answer.await.expect("it is answered") }.boxed()
    }

    fn end(&self, _runtime: &Runtime) -> u64 {
        let (hand_over, thread) = self.0.lock().take().expect("it ends once");
        drop(hand_over);
        thread.join().expect("no panic").units()
    }
}
