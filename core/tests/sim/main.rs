//! An application with five durable listeners, simulated under hundreds of seeds.

mod repeats;
mod shop;
mod small;
