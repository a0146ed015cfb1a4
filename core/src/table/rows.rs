//! Values under ordered keys.

use std::marker::PhantomData;
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::scan::{Scan, key_range, prefix_range};
use super::shape::{type_name, value_error};
use super::{Read, Write};
use crate::error::Error;
use crate::key::{Key, KeyPrefix, encode_key, shape_of};
use crate::store::{KeyRange, TableSpec};

/// A table of serde values under ordered keys.
///
/// ```
/// use aftercommit::table::Table;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order { lines: Vec<String>, cents: u64 }
///
/// /// Orders by buyer, then by the number of the order.
/// const ORDERS: Table<(u32, u64), Order> = Table::new("shop.orders");
///
/// # use aftercommit::error::Error;
/// # use aftercommit::table::{Read, Write};
/// fn place(tx: &mut impl Write, buyer: u32, order: &Order) -> Result<u64, Error> {
///     let last = ORDERS.prefix(tx, &buyer).next_back().transpose()?;
///     let number = last.map_or(1, |((_, number), _)| number + 1);
///     ORDERS.put(tx, &(buyer, number), order)?;
///     Ok(number)
/// }
///
/// fn spent(tx: &mut impl Read, buyer: u32) -> Result<u64, Error> {
///     ORDERS.prefix(tx, &buyer).map(|row| Ok(row?.1.cents)).sum()
/// }
/// ```
///
/// # Stored form
/// The name is that of the table in the store; two constants of one name are one table.
/// Values are stored as JSON, so fields may be added to a type as serde allows (`#[serde(default)]`), and what JSON cannot say is lost:
/// a float that is no number is stored as `null`.
/// With the table is recorded what it holds, `rows((u32, u64) -> Order)`; used as anything else it answers
/// [`StoreError::TableMismatch`](crate::error::StoreError::TableMismatch), until the former text is named with [`formerly`](Self::formerly).
///
/// # Errors
/// Every verb answers the errors of what it was given to read or write with.
/// Of its own are [`StoreError::Value`](crate::error::StoreError::Value) for a row that cannot be encoded or decoded, with the table and the key in it.
pub struct Table<K, V> {
    spec: TableSpec,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Serialize + DeserializeOwned + 'static> Table<K, V> {
    /// The table stored as `name`.
    ///
    /// # Panics
    /// If `name` is empty; for a constant, when compiled.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a table needs a name");
        Self { spec: TableSpec { name, shape: Self::shape, formerly: &[] }, types: PhantomData }
    }

    /// Accepts a table that was recorded as one of `shapes`, for instance `rows(u64 -> PurchaseOrder)` before the type was renamed.
    ///
    /// The text to name is the one in [`StoreError::TableMismatch`](crate::error::StoreError::TableMismatch).
    /// It says that the stored bytes are those of the present types; nothing is converted.
    pub const fn formerly(mut self, shapes: &'static [&'static str]) -> Self {
        self.spec.formerly = shapes;
        self
    }

    /// How the store sees the table.
    pub const fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// The value under `key`.
    pub fn get(&self, rows: &mut (impl Read + ?Sized), key: &K) -> Result<Option<V>, Error> {
        let key = encode_key(key);
        let value = rows.read_rows()?.get(&self.spec, &key)?;
        value.map(|value| decode(&self.spec, &key, &value)).transpose()
    }

    /// Whether there is a value under `key`; it is not decoded.
    pub fn contains(&self, rows: &mut (impl Read + ?Sized), key: &K) -> Result<bool, Error> {
        Ok(rows.read_rows()?.get(&self.spec, &encode_key(key))?.is_some())
    }

    /// Stores `value` under `key`, in place of what was there.
    pub fn put(&self, rows: &mut (impl Write + ?Sized), key: &K, value: &V) -> Result<(), Error> {
        let key = encode_key(key);
        let value = serde_json::to_vec(value).map_err(|cause| value_error(&self.spec, "encode", &key, cause))?;
        Ok(rows.rows()?.put(&self.spec, key, value)?)
    }

    /// Removes what is under `key`, if anything is.
    pub fn remove(&self, rows: &mut (impl Write + ?Sized), key: &K) -> Result<(), Error> {
        Ok(rows.rows()?.remove(&self.spec, encode_key(key))?)
    }

    /// The row with the lowest key.
    pub fn first(&self, rows: &mut (impl Read + ?Sized)) -> Result<Option<(K, V)>, Error> {
        self.iter(rows).page(1).next().transpose()
    }

    /// The row with the highest key.
    pub fn last(&self, rows: &mut (impl Read + ?Sized)) -> Result<Option<(K, V)>, Error> {
        self.iter(rows).page(1).next_back().transpose()
    }

    /// All rows.
    pub fn iter<'r>(&self, rows: &'r mut (impl Read + ?Sized)) -> Scan<'r, K, V> {
        self.range(rows, ..)
    }

    /// The rows whose keys lie in `range`; none if its end lies before its start.
    pub fn range<'r>(&self, rows: &'r mut (impl Read + ?Sized), range: impl RangeBounds<K>) -> Scan<'r, K, V> {
        self.scan(rows, key_range(&range))
    }

    /// The rows whose keys begin with `prefix`, in the order of what follows it.
    pub fn prefix<'r, P: Key>(&self, rows: &'r mut (impl Read + ?Sized), prefix: &P) -> Scan<'r, K, V>
    where
        K: KeyPrefix<P>,
    {
        self.scan(rows, prefix_range(prefix))
    }

    fn scan<'r>(&self, rows: &'r mut (impl Read + ?Sized), range: KeyRange) -> Scan<'r, K, V> {
        Scan::new(rows, self.spec, decode, range)
    }

    fn shape() -> String {
        format!("rows({} -> {})", shape_of::<K>(), type_name::<V>())
    }
}

fn decode<V: DeserializeOwned>(spec: &TableSpec, key: &[u8], value: &[u8]) -> Result<V, Error> {
    serde_json::from_slice(value).map_err(|cause| value_error(spec, "decode", key, cause))
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Table({} as {})", self.spec.name, (self.spec.shape)())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::ops::Bound;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::error::StoreError;
    use crate::table::Reader;
    use crate::table::double::Unit;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Order {
        cents: u64,
    }

    const ORDERS: Table<u64, Order> = Table::new("shop.orders");
    const PLACES: Table<Place, u32> = Table::new("shop.places");

    fn filled(count: u64) -> Unit {
        let mut unit = Unit::default();
        for number in 0..count {
            ORDERS.put(&mut unit, &number, &Order { cents: number * 100 }).expect("put");
        }
        unit
    }

    fn keys<K, V>(rows: impl Iterator<Item = Result<(K, V), Error>>) -> Vec<K> {
        rows.map(|row| row.expect("a row").0).collect()
    }

    /// What an error and its causes say.
    fn told(error: &(dyn std::error::Error + 'static)) -> String {
        std::iter::successors(Some(error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    #[test]
    fn what_was_put_is_got_until_it_is_replaced_or_removed() {
        let unit = &mut Unit::default();
        assert_eq!(ORDERS.get(unit, &7).expect("get"), None);
        ORDERS.put(unit, &7, &Order { cents: 1 }).expect("put");
        ORDERS.put(unit, &7, &Order { cents: 2 }).expect("put");
        assert_eq!(ORDERS.get(unit, &7).expect("get"), Some(Order { cents: 2 }));
        assert!(ORDERS.contains(unit, &7).expect("contains"));
        ORDERS.remove(unit, &7).expect("remove");
        ORDERS.remove(unit, &7).expect("remove what is not there");
        assert!(!ORDERS.contains(unit, &7).expect("contains"));
    }

    #[test]
    fn first_and_last_are_the_ends_and_read_one_row_each() {
        let mut unit = filled(5);
        assert_eq!(ORDERS.first(&mut unit).expect("first"), Some((0, Order { cents: 0 })));
        assert_eq!(ORDERS.last(&mut unit).expect("last"), Some((4, Order { cents: 400 })));
        assert_eq!(unit.scans, [(1, 1), (1, 1)]);
        assert_eq!(ORDERS.first(&mut Unit::default()).expect("first"), None);
        assert_eq!(ORDERS.last(&mut Unit::default()).expect("last"), None);
    }

    #[test]
    fn a_reader_reads_the_same_tables() {
        let mut reader = Reader::new(Box::new(filled(3)));
        assert_eq!(ORDERS.get(&mut reader, &2).expect("get"), Some(Order { cents: 200 }));
        assert_eq!(keys(ORDERS.iter(&mut reader)), [0, 1, 2]);
        let dynamic: &mut dyn Read = &mut reader;
        assert!(ORDERS.contains(dynamic, &0).expect("contains"));
    }

    #[test]
    fn another_kind_of_value_or_key_is_refused_unless_it_was_renamed() {
        const FORMER: Table<u64, u32> = Table::new("shop.orders");
        const RENAMED: Table<u64, Order> = ORDERS.formerly(&["rows(u64 -> u32)"]);
        let mut unit = Unit::default();
        FORMER.put(&mut unit, &1, &5).expect("put");
        let error = ORDERS.get(&mut unit, &1).expect_err("another value");
        assert_eq!(told(&error), "table `shop.orders` holds rows(u64 -> u32), but is used as rows(u64 -> Order)");
        assert!(matches!(ORDERS.iter(&mut unit).next(), Some(Err(Error::Store(StoreError::TableMismatch { .. })))));
        assert!(matches!(ORDERS.remove(&mut unit, &1), Err(Error::Store(StoreError::TableMismatch { .. }))));
        assert!(RENAMED.contains(&mut unit, &1).expect("renamed"));
        assert_eq!(format!("{PLACES:?}"), "Table(shop.places as rows((Vec<u8>, u8) -> u32))");
    }

    #[test]
    fn a_damaged_row_is_an_error_in_its_place_that_names_table_and_key() {
        let mut unit = filled(3);
        let rows = unit.tables.get_mut("shop.orders").expect("table");
        rows.insert(encode_key(&1u64), b"{}".to_vec());
        rows.insert(vec![0xFF], b"{}".to_vec());
        let error = ORDERS.get(&mut unit, &1).expect_err("no order");
        assert!(matches!(error, Error::Store(StoreError::Value { action: "decode", .. })));
        assert!(
            told(&error).starts_with(
                "cannot decode a row of table `shop.orders`: the row with key 0x0000000000000001: missing field `cents`"
            ),
            "{}",
            told(&error)
        );
        let told: Vec<_> = ORDERS.iter(&mut unit).map(|row| row.map_err(|error| told(&error))).collect();
        assert_eq!(told[0], Ok((0, Order { cents: 0 })));
        assert!(told[1].is_err());
        assert_eq!(told[2], Ok((2, Order { cents: 200 })));
        let expected = "cannot decode the key of a row of table `shop.orders`: the row with key 0xff: not a key of shape `u64`: it ends too soon";
        assert_eq!(told[3], Err(expected.to_owned()));
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn a_value_that_cannot_be_encoded_is_an_error_that_names_table_and_key() {
        const ODD: Table<u8, BTreeMap<(u8, u8), u8>> = Table::new("shop.odd");
        let mut unit = Unit::default();
        let error = ODD.put(&mut unit, &3, &BTreeMap::from([((1, 2), 3)])).expect_err("no key of JSON");
        assert!(
            told(&error).starts_with("cannot encode a row of table `shop.odd`: the row with key 0x03: "),
            "{}",
            told(&error)
        );
        assert!(!ODD.contains(&mut unit, &3).expect("contains"));
    }

    #[test]
    fn a_unit_that_is_over_has_no_rows_not_even_for_an_empty_range() {
        let mut unit = filled(1);
        unit.over = true;
        assert!(matches!(ORDERS.get(&mut unit, &0), Err(Error::Unit(_))));
        assert!(matches!(ORDERS.put(&mut unit, &0, &Order { cents: 0 }), Err(Error::Unit(_))));
        let mut walk = ORDERS.range(&mut unit, 3..3);
        assert!(matches!(walk.next(), Some(Err(Error::Unit(_)))));
        assert!(walk.next().is_none());
    }

    type Place = (Vec<u8>, u8);

    /// Keys around the edges of prefixes: parts that begin each other, zeros, and 0xFF to the end.
    fn place() -> impl Strategy<Value = Place> {
        let byte = prop_oneof![Just(0x00), Just(0x01), Just(0xFE), Just(0xFF)];
        (prop::collection::vec(byte.clone(), 0..4), byte)
    }

    fn bound() -> impl Strategy<Value = Bound<Place>> {
        prop_oneof![place().prop_map(Bound::Included), place().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
    }

    proptest! {
        #[test]
        fn a_table_answers_as_a_plain_map_does(
            steps in prop::collection::vec((place(), prop::option::weighted(0.8, any::<u32>())), 0..60),
            start in bound(),
            end in bound(),
            begin in place(),
            page in 1usize..9,
            turns in prop::collection::vec(any::<bool>(), 60),
        ) {
            let mut unit = Unit::default();
            let mut plain = BTreeMap::new();
            for (key, value) in steps {
                match value {
                    Some(value) => {
                        PLACES.put(&mut unit, &key, &value).expect("put");
                        plain.insert(key, value);
                    }
                    None => {
                        PLACES.remove(&mut unit, &key).expect("remove");
                        plain.remove(&key);
                    }
                }
            }
            prop_assert_eq!(PLACES.get(&mut unit, &begin).expect("get"), plain.get(&begin).copied());
            prop_assert_eq!(PLACES.first(&mut unit).expect("first"), plain.first_key_value().map(|(k, v)| (k.clone(), *v)));
            prop_assert_eq!(PLACES.last(&mut unit).expect("last"), plain.last_key_value().map(|(k, v)| (k.clone(), *v)));

            let range = (start, end);
            let expected = |keep: &dyn Fn(&Place) -> bool| {
                plain.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), *value)).collect::<Vec<_>>()
            };
            let within = expected(&|key| range.contains(key));
            let begun = expected(&|key| key.0 == begin.0);
            let both: [(KeyRange, _); 2] = [(key_range(&range), within), (prefix_range(&begin.0), begun)];
            for (stored, expected) in both {
                let forward = PLACES.scan(&mut unit, stored.clone()).page(page).collect::<Result<Vec<_>, _>>();
                prop_assert_eq!(&forward.expect("rows"), &expected);
                let backward = PLACES.scan(&mut unit, stored.clone()).page(page).rev().collect::<Result<Vec<_>, _>>();
                prop_assert_eq!(backward.expect("rows"), expected.iter().rev().cloned().collect::<Vec<_>>());

                let mut walk = PLACES.scan(&mut unit, stored).page(page);
                let mut left = VecDeque::from(expected);
                for from_low in &turns {
                    let (row, expected) =
                        if *from_low { (walk.next(), left.pop_front()) } else { (walk.next_back(), left.pop_back()) };
                    prop_assert_eq!(row.transpose().expect("a row"), expected);
                }
            }
        }
    }
}
