//! What every embedded store promises, on each of them; and what the stores in a folder promise about it and the disk.

#[macro_use]
mod place;

mod copy;
mod crash;
mod erase;
mod faults;
mod flips;
mod folder;
mod journal;
mod linger;
mod model;
mod prune;
mod redb;
mod sled;
mod stream;
mod suite;
mod verify;
