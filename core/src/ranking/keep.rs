//! Rankings that are kept: what their durable listeners store, and what is read again at start.
//!
//! Stored are measures, not scores: a cell for each window, item and source, to which a delivery adds in the very commit that settles
//! it. So each event is in the measures once, however often the process is killed; and what follows from measures follows again.
//!
//! # Stored form
//! A table of counters by the ranking's name, under (generation, window, item, source); and for all rankings together
//! `aftercommit.rankings`, which generation serves, and `aftercommit.rankings.carried`, what the oldest window began with.
//! A rebuild counts into a new generation while the old one serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::credit::Credits;
use super::live::{Item, Ranking};
use super::tally::{Map, Measured, Tally};
use crate::bus::Bus;
use crate::clock::{Clock, Timestamp};
use crate::error::{BoxError, Error, RankingError};
use crate::event::StoredEvent;
use crate::key::{decode_key, encode_key};
use crate::listener::{self, Call, Redeliver, Registration, Sequence, StartAt};
use crate::store::Store;
use crate::table::{Counters, Reader, Table};
use crate::transaction::Tx;

/// By generation, window, item, and source.
type Measures<K> = Counters<(u32, Timestamp, K, String)>;

pub(super) const KEPT: Table<String, Kept> = Table::new("aftercommit.rankings");

/// By ranking, window and item.
const CARRIED: Counters<(String, Timestamp, Vec<u8>)> = Counters::new("aftercommit.rankings.carried");

/// What an event adds for which items.
pub(super) type Measure<K, E> = Arc<dyn Fn(&E, &mut Credits<K>) + Send + Sync>;

/// How many cells a unit of work removes or writes where there are many.
const AT_ONCE: usize = 100;

/// What is stored about a ranking as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The decimals of its measures.
    decimals: u8,
    /// The generation that serves.
    pub(super) serving: u32,
    /// The generation that each source counts into; the serving one where none is named.
    pub(super) sources: BTreeMap<String, u32>,
    /// The oldest window that is valid; what is before it is being removed.
    from: Timestamp,
}

/// Which generation each source counts into.
#[derive(Debug)]
pub(super) struct Generations {
    pub(super) serving: u32,
    pub(super) sources: Vec<u32>,
    from: Timestamp,
}

impl Generations {
    pub(super) fn new(sources: usize) -> Self {
        Self { serving: 0, sources: vec![0; sources], from: Timestamp(0) }
    }
}

/// A ranking as the runtime sees it.
pub(crate) trait Keeps: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Reads what is stored; before any delivery.
    fn begin(&self, store: &dyn Store, clock: &Arc<dyn Clock>) -> Result<(), Error>;

    /// The bus runs.
    fn started(&self, bus: &Bus) -> BoxFuture<'static, Result<(), Error>>;
}

impl<K: Item> Keeps for Ranking<K> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn begin(&self, store: &dyn Store, clock: &Arc<dyn Clock>) -> Result<(), Error> {
        self.0.clock.get_or_init(|| clock.clone());
        let mut reader = Reader::new(store.reader()?);
        let kept = KEPT.get(&mut reader, &self.0.name.to_owned())?;
        let decimals = self.0.tally.read().tally.rules.measure.places();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.decimals != decimals) {
            let (ranking, stored) = (self.0.name.to_owned(), kept.decimals);
            let reason = format!("its measures are stored with {stored} decimals and declared with {decimals}");
            return Err(RankingError::Declaration { ranking, reason }.into());
        }
        let kept = kept.unwrap_or(Kept { decimals, serving: 0, sources: BTreeMap::new(), from: Timestamp(0) });
        let sources: Vec<u32> = self
            .0
            .sources
            .iter()
            .map(|source| kept.sources.get(source.name).copied().unwrap_or(kept.serving))
            .collect();
        let serving = self.read(&mut reader, kept.serving, kept.from)?;
        let building = sources.iter().find(|generation| **generation != kept.serving);
        let building = building.map(|generation| self.read(&mut reader, *generation, kept.from)).transpose()?;
        *self.0.generations.lock() = Generations { serving: kept.serving, sources, from: kept.from };
        let mut state = self.0.tally.write();
        (state.tally, state.building) = (serving, building);
        Ok(())
    }

    fn started(&self, bus: &Bus) -> BoxFuture<'static, Result<(), Error>> {
        let (ranking, bus) = (self.clone(), bus.clone());
        async move {
            let name = ranking.0.name.to_owned();
            if !KEPT.contains(&mut bus.reader()?, &name)? {
                let kept = ranking.kept();
                bus.transaction_retrying(3, async |tx: &mut Tx| KEPT.put(tx, &name, &kept)).await?;
            }
            if ranking.is_rebuilding() {
                ranking.go_on(&bus);
            }
            Ok(())
        }
        .boxed()
    }
}

impl<K: Item> Ranking<K> {
    /// Removes what is stored of windows that are not kept any more, and of generations that a rebuild has left; called now and
    /// then, by a timer of the application's.
    ///
    /// # Errors
    /// The store's; a call that failed, or was dropped, is taken up by the next.
    pub async fn tidy(&self, bus: &Bus) -> Result<(), Error> {
        self.freeze_oldest(bus).await?;
        let (serving, building, from) = {
            let generations = self.0.generations.lock();
            (generations.serving, generations.sources.clone(), generations.from)
        };
        let measures = self.measures();
        let mut next: Option<(u32, Timestamp, K, String)> = None;
        loop {
            let mut gone = Vec::new();
            let mut reader = bus.reader()?;
            let from_there = match next.take() {
                Some(key) => measures.range(&mut reader, key..),
                None => measures.iter(&mut reader),
            };
            for row in from_there {
                let (key, _) = row?;
                let (generation, window, ..) = &key;
                if gone.len() == AT_ONCE {
                    next = Some(key);
                    break;
                }
                if (*generation != serving && !building.contains(generation)) || *window < from {
                    gone.push(key);
                }
            }
            drop(reader);
            if !gone.is_empty() {
                let removed =
                    bus.transaction(async |tx: &mut Tx| gone.iter().try_for_each(|key| measures.remove(tx, key)));
                removed.await?;
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Stores what the oldest window began with, and that nothing before it counts.
    async fn freeze_oldest(&self, bus: &Bus) -> Result<(), Error> {
        let name = self.0.name.to_owned();
        let (oldest, base) = {
            let state = self.0.tally.read();
            let oldest = state.tally.begins().next();
            let base: Vec<(Vec<u8>, i64)> =
                state.tally.base().map(|(item, carried)| (encode_key(item), carried)).collect();
            (oldest, base)
        };
        let Some(oldest) = oldest.filter(|oldest| {
            self.0.tally.read().tally.rules.windows.keep.is_some() && *oldest > self.0.generations.lock().from
        }) else {
            return Ok(());
        };
        for some in base.chunks(AT_ONCE) {
            let stored = bus.transaction(async |tx: &mut Tx| {
                some.iter()
                    .try_for_each(|(item, carried)| CARRIED.set(tx, &(name.clone(), oldest, item.clone()), *carried))
            });
            stored.await?;
        }
        let kept = Kept { from: oldest, ..self.kept() };
        bus.transaction(async |tx: &mut Tx| KEPT.put(tx, &name, &kept)).await?;
        self.0.generations.lock().from = oldest;
        loop {
            let mut reader = bus.reader()?;
            let old = CARRIED
                .range(&mut reader, (name.clone(), Timestamp(0), Vec::new())..(name.clone(), oldest, Vec::new()));
            let old = old.take(AT_ONCE).map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
            if old.is_empty() {
                return Ok(());
            }
            bus.transaction(async |tx: &mut Tx| old.iter().try_for_each(|key| CARRIED.remove(tx, key))).await?;
        }
    }

    fn measures(&self) -> Measures<K> {
        Counters::new(self.0.name)
    }

    /// The id of a source's durable listener.
    pub(super) fn id(&self, source: usize) -> String {
        format!("{}.{}", self.0.name, self.0.sources[source].name)
    }

    pub(super) fn kept(&self) -> Kept {
        let decimals = self.0.tally.read().tally.rules.measure.places();
        let generations = self.0.generations.lock();
        let sources =
            self.0.sources.iter().map(|source| source.name.to_owned()).zip(generations.sources.iter().copied());
        Kept { decimals, serving: generations.serving, sources: sources.collect(), from: generations.from }
    }

    /// What is stored of a generation.
    fn read(&self, reader: &mut Reader, generation: u32, from: Timestamp) -> Result<Tally<K>, Error> {
        let (rules, weights) = {
            let state = self.0.tally.read();
            (state.tally.rules.clone(), state.tally.weights().to_vec())
        };
        let mut measured = Vec::new();
        let measures = self.measures();
        for row in measures.prefix(reader, &generation) {
            let ((_, window, item, source), amount) = row?;
            // A source that is not declared any more is kept, and counts for nothing.
            if let Some(source) = self.0.sources.iter().position(|known| known.name == source)
                && window >= from
            {
                measured.push(Measured { window, item, source, amount });
            }
        }
        let mut base = Map::default();
        for row in CARRIED.prefix(reader, &(self.0.name.to_owned(), from)) {
            let ((.., item), carried) = row?;
            let item: K = decode_key(&item).map_err(|cause| RankingError::Declaration {
                ranking: self.0.name.to_owned(),
                reason: format!("its items were another type: {cause}"),
            })?;
            base.insert(item, carried);
        }
        Ok(Tally::restored(rules, weights, (from, base), measured))
    }

    /// Items whose stored measures are to go.
    fn let_go(&self) -> Vec<(Timestamp, K)> {
        match self.0.tally.read().tally.rules.most_items {
            Some(_) => self.0.tally.write().tally.take_let_go(AT_ONCE / 4),
            None => Vec::new(),
        }
    }

    /// Counts one event, in the unit of work of its delivery.
    fn take<E>(
        &self,
        source: usize,
        event: &E,
        call: &mut Call<'_>,
        credit: &dyn Fn(&E, &mut Credits<K>),
    ) -> Result<(), BoxError> {
        let mut credits = self.credits(call.metadata().time);
        credit(event, &mut credits);
        let (generation, building) = {
            let generations = self.0.generations.lock();
            (generations.sources[source], generations.sources[source] != generations.serving)
        };
        let (measured, _) = self.measured(source, credits, building)?;
        let (measures, name) = (self.measures(), self.0.sources[source].name);
        let let_go = if building { Vec::new() } else { self.let_go() };
        let tx = call.tx()?;
        for one in &measured {
            measures.add(tx, &(generation, one.window, one.item.clone(), name.to_owned()), one.amount)?;
        }
        for (window, item) in &let_go {
            for source in &self.0.sources {
                measures.remove(tx, &(generation, *window, item.clone(), source.name.to_owned()))?;
            }
        }
        let ranking = self.clone();
        tx.once_committed(move || ranking.apply(&measured, building));
        Ok(())
    }
}

/// The durable listener of a source.
///
/// What one event measures is a function of it alone: what fails would fail again, so it parks at once.
/// Additions commute, so that no event waits for another.
pub(super) fn listen<K: Item, E: StoredEvent>(
    ranking: &Ranking<K>,
    source: usize,
    from_the_beginning: bool,
    credit: Measure<K, E>,
) -> Registration {
    let start = if from_the_beginning { StartAt::Beginning } else { StartAt::Now };
    let (id, ranking) = (ranking.id(source), ranking.clone());
    listener::on::<E>(id)
        .durable()
        .takes_tx()
        .start_at(start)
        .sequence(Sequence::Unordered)
        .redeliver(Redeliver::new().attempts(1))
        .module(module_path!())
        .call_with(move |event: &E, call: &mut Call<'_>| ranking.take(source, event, call, &*credit))
}
