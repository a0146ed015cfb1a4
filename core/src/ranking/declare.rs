//! What is declared of a ranking: what counts, how much, when, and how much of it is kept.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::board::{Board, Ties};
use super::credit::{Credits, WEIGHT};
use super::keep::{self, Generations};
use super::live::{Inner, Item, Ranking, State};
use super::score::Scale;
use super::tally::{Dropped, GroupOf, Rules, Tally};
use super::window::Windows;
use crate::clock::Timestamp;
use crate::error::RankingError;
use crate::event::StoredEvent;
use crate::listener::Registration;

/// An event that says itself which item it counts for; `#[derive(Ranked)]` writes it.
///
/// ```
/// use aftercommit::ranking::{Credits, Ranked};
///
/// struct Viewed { product: u64 }
///
/// impl Ranked<u64> for Viewed {
///     const SOURCE: &'static str = "view";
///     fn credit(&self, credits: &mut Credits<u64>) {
///         credits.one(self.product);
///     }
/// }
/// ```
pub trait Ranked<K> {
    /// What its measures are called in rankings; stored with them.
    const SOURCE: &'static str;

    /// Says how much it adds for which items.
    fn credit(&self, credits: &mut Credits<K>);
}

pub(super) type Listen<K> = Arc<dyn Fn(&Ranking<K>, usize) -> Registration + Send + Sync>;

pub(super) struct Source<K> {
    pub(super) name: &'static str,
    pub(super) listen: Listen<K>,
}

/// A ranking being declared; [`build`](Self::build) ends it.
#[must_use = "a declaration ends with `build`"]
pub struct RankingBuilder<K> {
    name: &'static str,
    rules: Rules<K>,
    carry: String,
    sources: Vec<Source<K>>,
    weights: Vec<String>,
    ahead: Duration,
    from_the_beginning: bool,
}

impl<K: Item> Ranking<K> {
    /// Begins the declaration of a ranking, whose name is stored.
    pub fn declare(name: &'static str) -> RankingBuilder<K> {
        RankingBuilder {
            name,
            rules: Rules {
                scale: Scale::default(),
                measure: Scale::decimals(9),
                ties: Ties::default(),
                windows: Windows::all_time(),
                carry: 0,
                most_items: None,
                group_of: None,
                dropped: None,
            },
            carry: "0".to_owned(),
            sources: Vec::new(),
            weights: Vec::new(),
            ahead: Duration::from_secs(86_400),
            from_the_beginning: false,
        }
    }
}

impl<K: Item> RankingBuilder<K> {
    /// How many decimals scores have, 6 unless said here. What differs by less is a tie.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.rules.scale = scale;
        self
    }

    /// How many decimals measures have, 9 unless said here; a source measures at most 9.2 * 10^18 units of an item in a window.
    pub fn measure(mut self, scale: Scale) -> Self {
        self.rules.measure = scale;
        self
    }

    /// Which of two items with equal scores comes first; the lower one unless said here.
    pub fn ties(mut self, ties: Ties) -> Self {
        self.rules.ties = ties;
        self
    }

    /// How time is divided; one window without end unless said here.
    pub fn windows(mut self, windows: Windows) -> Self {
        self.rules.windows = windows;
        self
    }

    /// Lets each window begin with this part of the scores of the one before it, a decimal from 0 to 1: `0.5`.
    ///
    /// A late event that changes a window changes what those after it began with. Each window rounds once, to a score.
    pub fn carry(mut self, part: impl Into<String>) -> Self {
        self.carry = part.into();
        self
    }

    /// Keeps at most so many items a window: when there are a quarter more, the worst are let go of, with their measures.
    ///
    /// An item that was let go of begins at nothing again, so that the tail of such a ranking depends on the sequence of events.
    /// Goes with windows that stand alone: neither carried over, sliding nor decaying.
    pub fn most_items(mut self, most: usize) -> Self {
        self.rules.most_items = Some(most.max(1));
        self
    }

    /// Ranks the items of each group too, by the text that `group` says; an item stays in its group.
    pub fn group_by(mut self, group: impl Fn(&K) -> Option<String> + Send + Sync + 'static) -> Self {
        let group: GroupOf<K> = Arc::new(group);
        self.rules.group_of = Some(group);
        self
    }

    /// Called with each window that is let go of, for an archive; it begins at the moment given.
    ///
    /// Called on whichever thread lets go, while nobody reads: it should hand on. After a restart it may be called again with the same.
    pub fn on_drop(mut self, dropped: impl Fn(Timestamp, &Board<K>) + Send + Sync + 'static) -> Self {
        let dropped: Dropped<K> = Arc::new(dropped);
        self.rules.dropped = Some(dropped);
        self
    }

    /// How far ahead of the clock an event may be, one day unless said here; one that is further is refused, and parks.
    pub fn ahead(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }

    /// Begins with the first event that the log holds, where the store does not know the ranking yet; else with what comes.
    pub fn from_the_beginning(mut self) -> Self {
        self.from_the_beginning = true;
        self
    }

    /// Counts events of type `E`: `credit` says how much which items are given, `weight` what a unit of that is worth, a decimal of
    /// at most six places.
    ///
    /// The name of a source is stored, and is that of its durable listener: `<ranking>.<source>`.
    pub fn source<E: StoredEvent>(
        mut self,
        name: &'static str,
        weight: impl Into<String>,
        credit: impl Fn(&E, &mut Credits<K>) + Send + Sync + 'static,
    ) -> Self {
        let (credit, begin) = (Arc::new(credit), self.from_the_beginning);
        let listen: Listen<K> = Arc::new(move |ranking, source| keep::listen(ranking, source, begin, credit.clone()));
        self.sources.push(Source { name, listen });
        self.weights.push(weight.into());
        self
    }

    /// Counts events that say themselves for which items: see [`Ranked`].
    pub fn counts<E: StoredEvent + Ranked<K>>(self, weight: impl Into<String>) -> Self {
        self.source::<E>(E::SOURCE, weight, E::credit)
    }

    /// Ends the declaration.
    ///
    /// # Errors
    /// [`RankingError::Declaration`] for what cannot be: no source, two of one name, a weight or a part that is none,
    /// bounds that go with other windows.
    pub fn build(self) -> Result<Ranking<K>, RankingError> {
        let refused = |reason: String| RankingError::Declaration { ranking: self.name.to_owned(), reason };
        if self.name.is_empty() {
            return Err(refused("a ranking needs a name".to_owned()));
        }
        if self.sources.is_empty() {
            return Err(refused("it has no source".to_owned()));
        }
        for (place, source) in self.sources.iter().enumerate() {
            if self.sources[..place].iter().any(|other| other.name == source.name) {
                return Err(refused(format!("two sources are named `{}`", source.name)));
            }
        }
        let mut rules = self.rules;
        let weights: Result<Vec<i64>, _> =
            self.weights.iter().map(|text| WEIGHT.parse(text).map(|one| one.0)).collect();
        let weights = weights.map_err(|cause| refused(cause.to_string()))?;
        rules.carry = WEIGHT.parse(&self.carry).map_err(|cause| refused(cause.to_string()))?.0;
        if !(0..=WEIGHT.one()).contains(&rules.carry) {
            return Err(refused(format!("a part of {} cannot be carried over: it is 0 to 1", self.carry)));
        }
        let joins = rules.windows.joins();
        if rules.carry != 0 && joins {
            return Err(refused("a sliding or decaying ranking carries nothing over".to_owned()));
        }
        if rules.most_items.is_some() && (joins || rules.carry != 0) {
            return Err(refused("items are bounded only where windows stand alone".to_owned()));
        }
        let generations = Generations::new(self.sources.len());
        let inner = Inner {
            name: self.name,
            sources: self.sources,
            ahead: self.ahead,
            tally: RwLock::new(State { tally: Tally::new(rules, weights), building: None, missed: None }),
            generations: Mutex::new(generations),
            reweighing: Mutex::new(()),
            rebuilding: tokio::sync::Mutex::new(()),
            version: watch::Sender::new(0),
            too_late: AtomicU64::new(0),
            clock: OnceLock::new(),
        };
        Ok(Ranking(Arc::new(inner)))
    }
}
