//! The bus's promises, through its public API.

#[macro_use]
mod stores;
mod heard;
mod live;
mod scene;

mod archive;
mod bus;
mod conformance;
#[cfg(target_os = "linux")]
mod disk;
mod drops;
mod durable;
mod ev;
mod faults;
mod figures;
mod idempotency;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod kills_kept;
#[cfg(unix)]
mod kills_poison;
mod lc;
mod locks;
mod metering;
mod publications;
mod ranking;
mod resilience;
mod retention;
mod review;
mod sendable;
mod slow;
mod smoke;
mod sp;
mod streams;
mod tidy;
mod ts;
mod tx;
mod units;
mod ways;
mod wiring;
