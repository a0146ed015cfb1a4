//! What the catalogue makes of orders: units sold and cancelled, and revenue, per item.
//!
//! Each listener adds to cells of its own. Its additions and "done" are one commit, so no line counts twice, and additions to
//! one cell commute, so deliveries never conflict. What fails here fails at each call (a sum that leaves its range),
//! so it is called once and parked with its cause.

use aftercommit::prelude::*;

use super::sales::{REVENUE, UNITS_CANCELLED, UNITS_SOLD};
use crate::money::Money;
use crate::orders::events::{OrderCancelled, OrderPlaced};

#[listener(durable, id = "shop.units-sold", concurrency = 64, redeliver(attempts = 1))]
fn count_units_sold(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
    event.lines.iter().try_for_each(|line| UNITS_SOLD.add(tx, &line.item, line.units()))
}

#[listener(durable, id = "shop.units-cancelled", concurrency = 64, redeliver(attempts = 1))]
fn count_units_cancelled(event: &OrderCancelled, tx: &mut Tx) -> Result<(), Error> {
    event.lines.iter().try_for_each(|line| UNITS_CANCELLED.add(tx, &line.item, line.units()))
}

#[listener(durable, id = "shop.revenue", concurrency = 64, redeliver(attempts = 1))]
fn sum_revenue(event: &OrderPlaced, tx: &mut Tx) -> Result<(), Error> {
    event.lines.iter().try_for_each(|line| {
        let amount = line.amount().unwrap_or(Money::ZERO);
        REVENUE.add(tx, &line.item, amount.ten_thousandths())
    })
}
