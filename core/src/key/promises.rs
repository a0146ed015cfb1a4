//! Every key keeps what [`Key`] promises.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;

/// What [`Key`] promises, of any two keys and of their bytes.
fn keeps_its_promises<K: Key + Ord + Debug + Clone>(a: &K, b: &K) -> Result<(), TestCaseError> {
    let (x, y) = (encode_key(a), encode_key(b));
    prop_assert_eq!(a.cmp(b), x.cmp(&y), "order of {:?} and {:?}", a, b);
    prop_assert_eq!(&decode_key::<K>(&x).expect("round trip"), a);
    for len in 0..x.len() {
        let cut = K::decode(&mut &x[..len]);
        prop_assert!(cut.is_err(), "{} of {} bytes are {:?}", len, x.len(), cut);
    }
    let pair = (a.clone(), b.clone());
    prop_assert_eq!(&encode_key(&pair), &[&x[..], &y[..]].concat());
    prop_assert_eq!(decode_key::<(K, K)>(&encode_key(&pair)).expect("round trip"), pair);
    prop_assert!(decode_key::<K>(&[&x[..], &y[..], &[0]].concat()).is_err(), "bytes that follow are refused");
    Ok(())
}

/// Bytes whose neighbours in the order are the hard ones.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0x00), Just(0x01), Just(0xFE), Just(0xFF), any::<u8>()]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(byte(), 0..5)
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), any::<char>()], 0..5)
        .prop_map(|chars| chars.into_iter().collect())
}

macro_rules! integers {
    ($($int:ident)*) => {
        proptest! {$(
            #[test]
            fn $int(a: $int, b: $int) {
                let edges = [$int::MIN, $int::MIN + 1, $int::MAX / 2, $int::MAX, 0, 1, (0 as $int).wrapping_sub(1), a, b];
                for (first, second) in edges.iter().flat_map(|a| edges.iter().map(move |b| (a, b))) {
                    keeps_its_promises(first, second)?;
                }
            }
        )*}
    };
}

mod integers_keep_the_promises {
    use super::*;

    integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);
}

proptest! {
    #[test]
    fn text_keeps_the_promises(a in text(), b in text()) {
        keeps_its_promises(&a, &b)?;
    }

    #[test]
    fn bytes_keep_the_promises(a in bytes(), b in bytes()) {
        keeps_its_promises(&a, &b)?;
    }

    #[test]
    fn values_of_one_size_keep_the_promises(a: (bool, char, [u8; 4], u128), b: (bool, char, [u8; 4], u128)) {
        keeps_its_promises(&a.0, &b.0)?;
        keeps_its_promises(&a.1, &b.1)?;
        keeps_its_promises(&a.2, &b.2)?;
        keeps_its_promises(&Uuid::from_u128(a.3), &Uuid::from_u128(b.3))?;
        keeps_its_promises(&Timestamp(a.3 as u64), &Timestamp(b.3 as u64))?;
    }

    #[test]
    fn options_keep_the_promises(a in prop::option::of(text()), b in prop::option::of(text())) {
        keeps_its_promises(&a, &b)?;
        keeps_its_promises(&Some(a), &None)?;
    }

    #[test]
    fn tuples_keep_the_promises(
        a in (text(), byte(), bytes(), -2i16..2, prop::option::of(byte()), any::<bool>()),
        b in (text(), byte(), bytes(), -2i16..2, prop::option::of(byte()), any::<bool>()),
    ) {
        keeps_its_promises(&(a.0.clone(),), &(b.0.clone(),))?;
        keeps_its_promises(&(a.0.clone(), a.1), &(b.0.clone(), b.1))?;
        keeps_its_promises(&(a.1, a.0.clone(), a.3), &(b.1, b.0.clone(), b.3))?;
        keeps_its_promises(&(a.3, a.2.clone(), a.0.clone(), a.4), &(b.3, b.2.clone(), b.0.clone(), b.4))?;
        keeps_its_promises(&(a.1, a.4, a.3, a.5, a.2.clone()), &(b.1, b.4, b.3, b.5, b.2.clone()))?;
        keeps_its_promises(&a, &b)?;
        keeps_its_promises(&((a.0, a.1), a.2), &((b.0, b.1), b.2))?;
    }

    #[test]
    fn a_prefix_begins_the_keys_whose_parts_equal_it_and_no_others(key in (text(), bytes(), byte()), parts in (text(), bytes())) {
        fn begins<P: Key, K: KeyPrefix<P>>(key: &K, prefix: &P) -> bool {
            encode_key(key).starts_with(&encode_key(prefix))
        }
        prop_assert!(begins(&key, &key.0));
        prop_assert!(begins(&key, &(key.0.clone(),)));
        prop_assert!(begins(&key, &(key.0.clone(), key.1.clone())));
        prop_assert_eq!(begins(&key, &parts.0), key.0 == parts.0);
        prop_assert_eq!(begins(&key, &parts), (&key.0, &key.1) == (&parts.0, &parts.1));
    }

    #[test]
    fn any_bytes_are_a_key_or_an_error_but_never_two_spellings_of_one(bytes in bytes()) {
        fn check<K: Key>(bytes: &[u8]) -> Result<(), TestCaseError> {
            if let Ok(key) = decode_key::<K>(bytes) {
                prop_assert_eq!(encode_key(&key), bytes);
            }
            Ok(())
        }
        check::<bool>(&bytes)?;
        check::<char>(&bytes)?;
        check::<String>(&bytes)?;
        check::<Vec<u8>>(&bytes)?;
        check::<Option<u8>>(&bytes)?;
        check::<(i8, String)>(&bytes)?;
    }
}

#[test]
fn the_stored_bytes_are_the_documented_ones() {
    assert_eq!(encode_key(&0x0102_u16), [1, 2]);
    assert_eq!(
        (encode_key(&i16::MIN), encode_key(&-1i16), encode_key(&1i16)),
        (vec![0, 0], vec![0x7F, 0xFF], vec![0x80, 1])
    );
    assert_eq!((encode_key(&false), encode_key(&true)), (vec![0], vec![1]));
    assert_eq!(encode_key(&'é'), [0, 0, 0, 0xE9]);
    assert_eq!(encode_key(&"a\0b".to_owned()), b"a\x00\xFFb\x00\x00");
    assert_eq!(encode_key(&vec![0u8]), [0, 0xFF, 0, 0]);
    assert_eq!(encode_key(&[0u8, 1]), [0, 1]);
    assert_eq!(encode_key(&Uuid::from_u128(5)), 5u128.to_be_bytes());
    assert_eq!(encode_key(&Timestamp(5)), 5u64.to_be_bytes());
    assert_eq!((encode_key(&None::<u8>), encode_key(&Some(7u8))), (vec![0], vec![1, 7]));
    assert_eq!(encode_key(&(1u8, "a".to_owned(), 2u8)), b"\x01a\x00\x00\x02");
}

#[test]
fn bytes_that_are_no_key_say_which_shape_was_expected_and_why() {
    fn check<K: Key + Debug>(bytes: &[u8], expected: &str) {
        assert_eq!(decode_key::<K>(bytes).expect_err("no key").to_string(), expected);
    }
    check::<(u8, String)>(b"\x01a", "not a key of shape `(u8, String)`: it ends too soon");
    check::<(u8, String)>(b"\x01a\0", "not a key of shape `(u8, String)`: it ends too soon");
    check::<String>(b"a\0\x01", "not a key of shape `String`: a zero byte is followed by neither 00 nor FF");
    check::<String>(b"\xFF\0\0", "not a key of shape `String`: it is not UTF-8");
    check::<u16>(&[1, 2, 3], "not a key of shape `u16`: bytes follow after its end");
    check::<bool>(&[2], "not a key of shape `bool`: it is neither 0 nor 1");
    check::<char>(&[0, 0, 0xD8, 0], "not a key of shape `char`: it is no code point");
    check::<Option<u8>>(&[2], "not a key of shape `Option<u8>`: it begins with neither 0 nor 1");
}

/// As a derive writes them: a newtype, a struct, a struct that begins with a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Buyer(u32);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ByBuyer {
    buyer: Buyer,
    placed: Timestamp,
}

impl Key for Buyer {
    fn shape(out: &mut String) {
        <(u32,) as Key>::shape(out);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        <u32 as Key>::encode(&self.0, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(Self(<u32 as Key>::decode(input)?))
    }
}

impl Key for ByBuyer {
    fn shape(out: &mut String) {
        <(Buyer, Timestamp) as Key>::shape(out);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        <Buyer as Key>::encode(&self.buyer, out);
        <Timestamp as Key>::encode(&self.placed, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok(Self { buyer: <Buyer as Key>::decode(input)?, placed: <Timestamp as Key>::decode(input)? })
    }
}

impl KeyPrefix<Buyer> for ByBuyer {}

proptest! {
    #[test]
    fn structs_keep_the_promises_and_are_stored_as_tuples(a in (0u32..3, any::<u64>()), b in (0u32..3, any::<u64>())) {
        let by = |(buyer, placed)| ByBuyer { buyer: Buyer(buyer), placed: Timestamp(placed) };
        keeps_its_promises(&by(a), &by(b))?;
        prop_assert_eq!(encode_key(&by(a)), encode_key(&a));
    }
}

#[test]
fn the_shape_is_that_of_the_bytes_and_names_no_struct() {
    assert_eq!(shape_of::<Buyer>(), "u32");
    assert_eq!(shape_of::<(u32,)>(), "u32");
    assert_eq!(shape_of::<ByBuyer>(), "(u32, Timestamp)");
    assert_eq!(
        shape_of::<(i128, Option<String>, Vec<u8>, [u8; 4], (bool, char), Uuid)>(),
        "(i128, Option<String>, Vec<u8>, [u8; 4], (bool, char), Uuid)"
    );
}

#[test]
fn a_key_is_shown_as_text_only_if_it_is_one_string() {
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(readable(bytes), expected);
    }
    check(&encode_key(&"rock".to_owned()), "\"rock\"");
    check(&encode_key(&"a \"b\" ü".to_owned()), "\"a \\\"b\\\" ü\"");
    check(&encode_key(&String::new()), "0x0000");
    check(&encode_key(&"line\n".to_owned()), "0x6c696e650a0000");
    check(&encode_key(&("a".to_owned(), 7u8)), "0x61000007");
    check(&encode_key(&0x6162_6364u32), "0x61626364");
    check(&encode_key(&7u32), "0x00000007");
    check(b"", "0x");
}
