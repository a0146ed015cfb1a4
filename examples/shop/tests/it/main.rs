//! The promises of the sample shop: reading, scoring, reporting, replaying, resuming.

mod bad_logs;
mod command;
mod generated;
mod mixed;
mod overlap;
mod plain;
mod real_data;
mod refused;
mod replay;
mod replayed;
mod resume;
mod runs;
mod shop;
mod units;
