//! The sums of each item, and how they are read.

use std::collections::BTreeMap;

use aftercommit::prelude::*;
use aftercommit::table::Read;

use crate::money::Money;
use crate::report::ItemSales;

/// Units in purchase lines, by item.
pub(super) const UNITS_SOLD: Counters<u64> = Counters::new("shop.units-sold");

/// Units in cancel lines, by item.
pub(super) const UNITS_CANCELLED: Counters<u64> = Counters::new("shop.units-cancelled");

/// Price times quantity over purchase lines in ten-thousandths, by item.
pub(super) const REVENUE: Counters<u64> = Counters::new("shop.revenue");

/// What was sold of each item, by item; those among them that were only taken back.
///
/// # Errors
/// If the sums cannot be read.
pub fn sales(rows: &mut impl Read) -> Result<BTreeMap<u64, ItemSales>, Error> {
    let mut sales: BTreeMap<u64, ItemSales> = BTreeMap::new();
    for sum in UNITS_SOLD.iter(rows) {
        let (item, units) = sum?;
        sales.entry(item).or_default().units_sold = units;
    }
    for sum in UNITS_CANCELLED.iter(rows) {
        let (item, units) = sum?;
        sales.entry(item).or_default().units_cancelled = units;
    }
    for sum in REVENUE.iter(rows) {
        let (item, amount) = sum?;
        sales.entry(item).or_default().revenue = Money::from_ten_thousandths(amount);
    }
    Ok(sales)
}
