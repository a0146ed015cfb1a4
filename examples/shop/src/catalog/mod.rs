//! The catalogue: who looked at which item, and what was sold of it.

pub mod events;
mod listeners;
mod sales;

pub use sales::sales;
