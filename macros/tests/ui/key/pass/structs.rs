//! Structs of keys are keys; one field is that field, several are a tuple.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]

use aftercommit::Key;
use aftercommit::key::{decode_key, encode_key, shape_of};

mod hidden {
    #[derive(aftercommit::Key, Debug, PartialEq, Clone)]
    pub(crate) struct Row(pub(crate) u16);
}

/// A public key may have private parts.
#[derive(Key, Debug, PartialEq, Clone)]
pub struct Seat {
    hall: String,
    row: hidden::Row,
    r#type: u8,
}

#[derive(Key, Debug, PartialEq, Clone)]
struct Pair<A, B: Clone>(A, Option<B>);

#[derive(Key, Debug, PartialEq, Clone)]
struct Id<const N: usize>([u8; N]);

fn round<K: Key + PartialEq + std::fmt::Debug>(key: K, bytes: &[u8], shape: &str) {
    assert_eq!(encode_key(&key), bytes);
    assert_eq!(decode_key::<K>(bytes), Ok(key));
    assert_eq!(shape_of::<K>(), shape);
}

fn main() {
    let seat = Seat { hall: "e".to_owned(), row: hidden::Row(7), r#type: 1 };
    round(seat.clone(), b"e\0\0\0\x07\x01", "(String, u16, u8)");
    round(Pair(seat, None::<bool>), b"e\0\0\0\x07\x01\0", "((String, u16, u8), Option<bool>)");
    round(Id([1, 2]), &[1, 2], "[u8; 2]");
}
