//! What every embedded store promises, on each of them; and what the stores in a folder promise about it and the disk.

#[macro_use]
mod place;

mod copy;
mod crash;
#[cfg(target_os = "linux")]
mod disk;
mod erase;
mod faults;
mod fixtures;
mod flips;
mod folder;
mod given_up;
mod journal;
mod linger;
mod model;
mod prune;
mod redb;
mod retention;
mod sled;
mod stream;
mod suite;
mod verify;
mod waiting;
