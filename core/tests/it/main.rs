//! The bus's promises, through its public API.

#[macro_use]
mod stores;
mod heard;
mod live;
mod scene;

mod bus;
mod conformance;
mod drops;
mod durable;
mod ev;
mod faults;
mod figures;
#[cfg(unix)]
mod kills;
mod lc;
mod review;
mod sendable;
mod slow;
mod smoke;
mod sp;
mod streams;
mod tidy;
mod tx;
mod units;
mod ways;
mod wiring;
