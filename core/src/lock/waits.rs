//! Which owner waits where, and whether a new wait closes a circle.
//!
//! Who waits depends on all who hold the key: on those it cannot stand beside, or through who waits before it. So the holders are
//! all that need be followed. An owner that waits stays where it is and keeps what it holds, so a circle that is seen stands; and
//! waits are noted one after another, so the last one of a circle sees all others.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use parking_lot::Mutex;

use super::owner::{Owner, Who};
use super::table::{Place, Table};
use crate::error::Waits;

/// Owners that wait, by their identity.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<usize, Wait>>);

#[derive(Debug)]
struct Wait {
    who: Who,
    place: Place,
}

impl Waiting {
    /// Notes that `who` waits at `place`, unless that closes a circle: then it answers who waits for what in it, beginning with `who`.
    pub(super) fn begin<K: Eq + Hash + Debug>(
        &self,
        table: &Table<K, Who>,
        owner: &Owner,
        who: Who,
        place: Place,
    ) -> Result<(), Vec<Waits>> {
        let mut waiting = self.0.lock();
        waiting.insert(owner.id(), Wait { who, place });
        let Some(circle) = circle(table, &waiting, owner.id()) else { return Ok(()) };
        let told = circle.iter().enumerate().filter_map(|(at, id)| {
            let wait = waiting.get(id)?;
            let next = circle[(at + 1) % circle.len()];
            let seen = table.look(wait.place)?;
            let holder = seen.holders.iter().find(|one| one.owner.as_ref().is_some_and(|owner| owner.id() == next))?;
            Some(Waits { who: wait.who.to_string(), key: seen.key, held_by: holder.to_string() })
        });
        let told = told.collect();
        waiting.remove(&owner.id());
        Err(told)
    }

    pub(super) fn end(&self, owner: &Owner) {
        self.0.lock().remove(&owner.id());
    }
}

/// The owners from `first` back to it, each waiting for what the next one holds.
fn circle<K: Eq + Hash + Debug>(
    table: &Table<K, Who>,
    waiting: &HashMap<usize, Wait>,
    first: usize,
) -> Option<Vec<usize>> {
    let mut seen = HashSet::new();
    // The way to where we are: each owner with those it waits for that were not looked at yet.
    let mut way: Vec<(usize, Vec<usize>)> = vec![(first, owners(table, waiting, first))];
    while let Some((_, ahead)) = way.last_mut() {
        match ahead.pop() {
            None => {
                way.pop();
            }
            Some(next) if next == first => return Some(way.into_iter().map(|(owner, _)| owner).collect()),
            Some(next) if seen.insert(next) => way.push((next, owners(table, waiting, next))),
            Some(_) => {}
        }
    }
    None
}

/// The owners that `id` waits for; none once the key was handed to it, though it may not have looked yet.
fn owners<K: Eq + Hash + Debug>(table: &Table<K, Who>, waiting: &HashMap<usize, Wait>, id: usize) -> Vec<usize> {
    let Some(wait) = waiting.get(&id) else { return Vec::new() };
    let holders = table.holders(wait.place);
    let owners: Vec<usize> = holders.iter().filter_map(|who| who.owner.as_ref()).map(Owner::id).collect();
    if owners.contains(&id) { Vec::new() } else { owners }
}
