//! What a group of requests has come to, before it is handed to the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Limits;
use super::engine::Batch;
use super::layout::{Chunks, frame};
use super::log::Packer;
use super::read_set::Version;
use crate::store::{Durability, Position};

/// What a group has come to so far.
pub(super) struct Group {
    limits: Limits,
    /// The version of the last request in it.
    pub(super) version: Version,
    pub(super) batch: Batch,
    /// Pieces of large values by key, framed.
    pub(super) pieces: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The large values of the group.
    pub(super) large: Vec<Chunks>,
    pub(super) bytes: usize,
    pub(super) packer: Packer,
    /// Listeners whose cursor moved.
    pub(super) moved: BTreeSet<Arc<str>>,
    pub(super) durability: Durability,
    /// Whether pruning has more to do.
    pub(super) more: bool,
}

impl Group {
    /// A group whose first event will stand at `next`, behind `written` bytes of the log.
    pub(super) fn new(limits: Limits, version: Version, next: Position, written: u64) -> Self {
        Self {
            limits,
            version,
            batch: Batch::new(),
            pieces: BTreeMap::new(),
            large: Vec::new(),
            bytes: 0,
            packer: Packer::new(next, limits.pack_bytes, written),
            moved: BTreeSet::new(),
            durability: Durability::Buffered,
            more: false,
        }
    }

    pub(super) fn insert(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += self.limits.cost(key.len() + value.as_ref().map_or(0, Vec::len));
        self.batch.insert(key, value);
    }

    pub(super) fn put(&mut self, key: Vec<u8>, body: &[u8]) {
        let value = frame(&key, body);
        self.insert(key, Some(value));
    }
}

/// A row to be written, with what it replaces if that is in pieces.
pub(super) struct Write {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) old: Option<Chunks>,
}
