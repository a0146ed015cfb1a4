//! Integers that many add to at once.

use std::marker::PhantomData;
use std::ops::RangeBounds;

use super::scan::{Scan, key_range, prefix_range};
use super::shape::value_error;
use super::{Read, Write};
use crate::error::{Error, UnitError};
use crate::key::{Key, KeyPrefix, encode_key, readable, shape_of};
use crate::store::{KeyRange, TableSpec};

/// A table of integer cells: stock, views, balances. A cell that was never written is 0.
///
/// ```
/// use aftercommit::table::Counters;
///
/// /// Units left of each product; never below 0, however many buy at once.
/// const STOCK: Counters<u64> = Counters::new("shop.stock").floor(0);
///
/// # use aftercommit::error::Error;
/// # use aftercommit::table::Write;
/// fn reserve(tx: &mut impl Write, product: u64, units: i64) -> Result<(), Error> {
///     STOCK.add(tx, &product, -units)
/// }
/// ```
///
/// [`add`](Self::add) reads nothing, so units of work that add to the same cell never conflict;
/// [`get`](Self::get), [`range`](Self::range) and [`prefix`](Self::prefix) read, and conflict with those that change what they read.
///
/// # Stored form
/// The name is that of the table in the store; each cell is an `i64`, 8 bytes big-endian.
/// With the table is recorded what it holds, `counters(u64)`; used as anything else it answers
/// [`StoreError::TableMismatch`](crate::error::StoreError::TableMismatch). The floor is not recorded: it belongs to the constant, and may change.
///
/// # Errors
/// Every verb answers the errors of what it was given to read or write with.
/// Of its own is [`StoreError::Value`](crate::error::StoreError::Value) for a cell that cannot be decoded, with the table and the key in it.
pub struct Counters<K> {
    spec: TableSpec,
    floor: Option<i64>,
    types: PhantomData<fn() -> K>,
}

impl<K: Key> Counters<K> {
    /// The cells stored as `name`, without a floor.
    ///
    /// # Panics
    /// If `name` is empty; for a constant, when compiled.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a table needs a name");
        Self { spec: TableSpec { name, shape: Self::shape, formerly: &[] }, floor: None, types: PhantomData }
    }

    /// Refuses whatever would leave a cell below `floor`. Without one, any `i64` will do.
    pub const fn floor(mut self, floor: i64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Accepts a table that was recorded as one of `shapes`, for instance `counters(u32)`.
    ///
    /// It says that the stored bytes are those of the present key; nothing is converted.
    pub const fn formerly(mut self, shapes: &'static [&'static str]) -> Self {
        self.spec.formerly = shapes;
        self
    }

    /// How the store sees the table.
    pub const fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// The cell `key`; 0 if it was never written or has been removed.
    pub fn get(&self, rows: &mut (impl Read + ?Sized), key: &K) -> Result<i64, Error> {
        let key = encode_key(key);
        let value = rows.read_rows()?.get(&self.spec, &key)?;
        value.map_or(Ok(0), |value| decode(&self.spec, &key, &value))
    }

    /// Adds `delta` to the cell `key` when the unit of work commits, to whatever it is by then. Never conflicts with others that add.
    ///
    /// # Errors
    /// The commit answers [`UnitError::BelowFloor`] if the cell would end below the floor,
    /// [`StoreError::Overflow`](crate::error::StoreError::Overflow) if it would leave the range of `i64`; nothing of the unit is stored then.
    pub fn add(&self, rows: &mut (impl Write + ?Sized), key: &K, delta: i64) -> Result<(), Error> {
        Ok(rows.rows()?.add(&self.spec, encode_key(key), delta, self.floor)?)
    }

    /// Makes the cell `key` be `value`, whatever it was.
    ///
    /// # Errors
    /// [`UnitError::BelowFloor`] at once if `value` is below the floor.
    pub fn set(&self, rows: &mut (impl Write + ?Sized), key: &K, value: i64) -> Result<(), Error> {
        if let Some(floor) = self.floor.filter(|floor| value < *floor) {
            return Err(self.below_floor(rows, key, value, floor));
        }
        Ok(rows.rows()?.put(&self.spec, encode_key(key), value.to_be_bytes().to_vec())?)
    }

    /// Removes the cell `key`, which then reads as 0 and is in no range.
    pub fn remove(&self, rows: &mut (impl Write + ?Sized), key: &K) -> Result<(), Error> {
        Ok(rows.rows()?.remove(&self.spec, encode_key(key))?)
    }

    /// All cells that are stored, those that came back to 0 among them.
    pub fn iter<'r>(&self, rows: &'r mut (impl Read + ?Sized)) -> Scan<'r, K, i64> {
        self.range(rows, ..)
    }

    /// The stored cells whose keys lie in `range`; none if its end lies before its start.
    pub fn range<'r>(&self, rows: &'r mut (impl Read + ?Sized), range: impl RangeBounds<K>) -> Scan<'r, K, i64> {
        self.scan(rows, key_range(&range))
    }

    /// The stored cells whose keys begin with `prefix`, in the order of what follows it.
    pub fn prefix<'r, P: Key>(&self, rows: &'r mut (impl Read + ?Sized), prefix: &P) -> Scan<'r, K, i64>
    where
        K: KeyPrefix<P>,
    {
        self.scan(rows, prefix_range(prefix))
    }

    fn scan<'r>(&self, rows: &'r mut (impl Read + ?Sized), range: KeyRange) -> Scan<'r, K, i64> {
        Scan::new(rows, self.spec, decode, range)
    }

    fn shape() -> String {
        format!("counters({})", shape_of::<K>())
    }

    /// The refusal of a `value` that is below `floor`, told as the step from what the cell is now.
    fn below_floor(&self, rows: &mut (impl Write + ?Sized), key: &K, value: i64, floor: i64) -> Error {
        let now = match self.get(rows, key) {
            Ok(now) => now,
            Err(error) => return error,
        };
        let delta = value.saturating_sub(now);
        UnitError::BelowFloor {
            table: self.spec.name.to_owned(),
            key: readable(&encode_key(key)),
            value: now,
            delta,
            floor,
        }
        .into()
    }
}

fn decode(spec: &TableSpec, key: &[u8], value: &[u8]) -> Result<i64, Error> {
    let cell = value
        .try_into()
        .map_err(|_| value_error(spec, "decode", key, format!("a cell has 8 bytes, this one has {}", value.len())))?;
    Ok(i64::from_be_bytes(cell))
}

impl<K> Clone for Counters<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Counters<K> {}

impl<K> std::fmt::Debug for Counters<K> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Counters({} as {}", self.spec.name, (self.spec.shape)())?;
        match self.floor {
            Some(floor) => write!(out, ", floor {floor})"),
            None => out.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreError;
    use crate::table::Table;
    use crate::table::double::Unit;

    const STOCK: Counters<(u8, String)> = Counters::new("shop.stock").floor(0);
    const VIEWS: Counters<u8> = Counters::new("shop.views");

    fn sku(shelf: u8, name: &str) -> (u8, String) {
        (shelf, name.to_owned())
    }

    #[test]
    fn a_cell_that_was_never_written_is_zero() {
        let mut unit = Unit::default();
        assert_eq!(VIEWS.get(&mut unit, &1).expect("get"), 0);
        assert_eq!(VIEWS.iter(&mut unit).count(), 0);
    }

    #[test]
    fn additions_are_summed_at_commit() {
        let mut unit = Unit::default();
        VIEWS.set(&mut unit, &1, -4).expect("set");
        for delta in [1, 10, -3] {
            VIEWS.add(&mut unit, &1, delta).expect("add");
        }
        unit.commit().expect("commit");
        assert_eq!(VIEWS.get(&mut unit, &1).expect("get"), 4);
        VIEWS.remove(&mut unit, &1).expect("remove");
        assert_eq!(VIEWS.get(&mut unit, &1).expect("get"), 0);
    }

    #[test]
    fn the_floor_goes_with_what_is_added_and_is_told_at_commit() {
        let mut unit = Unit::default();
        STOCK.set(&mut unit, &sku(1, "pen"), 2).expect("set");
        STOCK.add(&mut unit, &sku(1, "pen"), -3).expect("told later");
        assert!(matches!(unit.commit(), Err(Error::Unit(UnitError::BelowFloor { value: 2, delta: -3, floor: 0, .. }))));
        VIEWS.add(&mut unit, &1, -3).expect("add");
        unit.commit().expect("no floor");
    }

    #[test]
    fn setting_below_the_floor_is_refused_at_once() {
        let mut unit = Unit::default();
        STOCK.set(&mut unit, &sku(1, "a"), 2).expect("set");
        let error = STOCK.set(&mut unit, &sku(1, "a"), -1).expect_err("below");
        assert_eq!(
            error.to_string(),
            "cell 0x01610000 of table `shop.stock` is 2; adding -3 would go below its floor of 0"
        );
        assert!(!error.is_transient());
        assert_eq!(STOCK.get(&mut unit, &sku(1, "a")).expect("get"), 2);
        STOCK.set(&mut unit, &sku(1, "a"), 0).expect("the floor itself is allowed");
    }

    #[test]
    fn cells_are_walked_in_the_order_of_their_keys_both_ways() {
        let mut unit = Unit::default();
        for (value, key) in [sku(2, "b"), sku(1, "ab"), sku(1, "a"), sku(3, "")].iter().enumerate() {
            STOCK.set(&mut unit, key, value as i64).expect("set");
        }
        let all = STOCK.iter(&mut unit).collect::<Result<Vec<_>, _>>().expect("rows");
        assert_eq!(all, [(sku(1, "a"), 2), (sku(1, "ab"), 1), (sku(2, "b"), 0), (sku(3, ""), 3)]);
        let shelf = STOCK.prefix(&mut unit, &1).rev().collect::<Result<Vec<_>, _>>().expect("rows");
        assert_eq!(shelf, [(sku(1, "ab"), 1), (sku(1, "a"), 2)]);
        let range = STOCK.range(&mut unit, sku(1, "aa")..sku(3, "")).collect::<Result<Vec<_>, _>>().expect("rows");
        assert_eq!(range, [(sku(1, "ab"), 1), (sku(2, "b"), 0)]);
    }

    #[test]
    fn a_cell_is_eight_bytes_big_endian_and_nothing_else() {
        let mut unit = Unit::default();
        VIEWS.set(&mut unit, &7, -2).expect("set");
        let rows = unit.tables.get_mut("shop.views").expect("table");
        assert_eq!(rows[&vec![7]], (-2i64).to_be_bytes());
        rows.insert(vec![7], vec![1, 2, 3]);
        let Err(Error::Store(error @ StoreError::Value { .. })) = VIEWS.get(&mut unit, &7) else {
            panic!("three bytes are no cell")
        };
        assert_eq!(error.to_string(), "cannot decode a row of table `shop.views`");
    }

    #[test]
    fn counters_and_rows_are_not_mistaken_for_each_other() {
        const ROWS: Table<u8, i64> = Table::new("shop.views");
        let mut unit = Unit::default();
        VIEWS.set(&mut unit, &1, 1).expect("set");
        assert!(matches!(ROWS.get(&mut unit, &1), Err(Error::Store(StoreError::TableMismatch { .. }))));
        assert_eq!(format!("{STOCK:?}"), "Counters(shop.stock as counters((u8, String)), floor 0)");
    }
}
