//! The sample shop of `aftercommit`: a shop's log in, its orders, sales figures and daily rankings out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`orders`] | orders: what is said of them, what is done to them |
//! | [`catalog`] | items: who looked at them, and what was sold of each |
//! | [`ranking`] | each day's weighted ranking |
//! | [`replay`] | working a log off on the bus |
//! | [`app`] | the running shop: store, bus and listeners |
//! | [`log`] | reading a shop log: rows, units of work, errors with file and line |
//! | [`money`] | prices, quantities and exact amounts |
//! | [`day`] | calendar days in UTC |
//! | [`score`] | what a row is worth, in exact fixed point |
//! | [`report`] | the daily rankings and item figures as text |
//! | [`data`] | the stores the data can be kept in |
//! | [`run`] | which log and which weights a data directory was filled from |
//! | [`generate`] | a made-up, seeded month of a shop |
//! | [`progress`] | bar, rate and summary on standard error |
//! | [`cli`], [`commands`], [`error`] | the command line, what it does, and why it could not |

pub mod app;
pub mod catalog;
pub mod cli;
pub mod commands;
pub mod data;
pub mod day;
mod decimal;
pub mod error;
pub mod generate;
pub mod log;
pub mod money;
pub mod orders;
pub mod progress;
pub mod ranking;
pub mod replay;
pub mod report;
pub mod run;
pub mod score;

pub use decimal::DecimalError;
