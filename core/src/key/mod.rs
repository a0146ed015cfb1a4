//! Keys whose stored bytes sort as their values do.
//!
//! Whatever compares keys, a table, a log or a lane, compares bytes; so a key type says once how it becomes bytes.
//! Two promises hold for every [`Key`], and everything above relies on them:
//!
//! - **Order.** `a < b` exactly if the bytes of `a` come before those of `b`.
//! - **Self-delimiting.** No key's bytes begin another key's bytes, so a reader knows where a key ends.
//!   Written one after another, keys therefore sort as a tuple of them does, and the first of them can be searched by.
//!
//! # Bytes
//!
//! | type | bytes |
//! |---|---|
//! | `u8` to `u128` | big-endian, as wide as the type |
//! | `i8` to `i128` | big-endian with the sign bit flipped, so that negative ones come first |
//! | `bool` | `00` or `01` |
//! | `char` | its code point, 4 bytes big-endian |
//! | `String`, `Vec<u8>` | the bytes, with each `00` written as `00 FF`; then `00 00` |
//! | `[u8; N]`, `Uuid` | the bytes |
//! | [`Timestamp`](crate::clock::Timestamp) | its milliseconds, as `u64` |
//! | `Option<K>` | `00` for `None`; `01` and the bytes of `K` for `Some` |
//! | tuples of 1 to 6, structs | their fields in order, nothing between them |
//!
//! Text sorts by its bytes, which is the order of `str`, not of a language.
//! Floats are no keys: they have no total order, and two spellings of zero.
//! Nor are `usize` and `isize`, whose width is the machine's.
//! Tables and whatever else is stored with keys are bound to these bytes; they do not change.

mod encodings;
#[cfg(test)]
mod promises;

use std::fmt::Write;

use crate::error::KeyError;

/// A value that can be a key: its bytes sort as its values do, and tell where they end.
///
/// Structs derive it; every field must be a key, and the first field counts most.
/// By hand, it is a call per field:
///
/// ```
/// use aftercommit::error::KeyError;
/// use aftercommit::key::Key;
///
/// #[derive(Debug, PartialEq)]
/// struct Seat { hall: String, row: u16 }
///
/// impl Key for Seat {
///     fn shape(out: &mut String) {
///         <(String, u16)>::shape(out);
///     }
///     fn encode(&self, out: &mut Vec<u8>) {
///         self.hall.encode(out);
///         self.row.encode(out);
///     }
///     fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
///         Ok(Seat { hall: Key::decode(input)?, row: Key::decode(input)? })
///     }
/// }
///
/// let seat = Seat { hall: "east".to_owned(), row: 7 };
/// let bytes = aftercommit::key::encode_key(&seat);
/// assert_eq!(bytes, b"east\0\0\0\x07");
/// assert_eq!(aftercommit::key::decode_key::<Seat>(&bytes), Ok(seat));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a key",
    note = "derive `Key` on a struct of keys, or use integers of a fixed size, bool, char, String, Vec<u8>, [u8; N], Uuid, \
            Timestamp, Option and tuples of these",
    note = "floats have no total order, and `usize` has no fixed size: neither can be a key"
)]
pub trait Key: Sized + Send + Sync + 'static {
    /// Appends what the bytes consist of, for instance `(u64, String)`; recorded with a table and compared when it is used.
    ///
    /// Names of structs do not appear in it: a struct of one field has the shape of that field, one of several that of a tuple.
    /// So a key type can be renamed, or grow from a tuple into a struct, without a word to the store.
    fn shape(out: &mut String);

    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes one key off the front of `input` and leaves what follows it.
    ///
    /// # Errors
    /// [`KeyError`] if `input` does not begin with the bytes of a key, or ends within them; `input` is then of no more use.
    fn decode(input: &mut &[u8]) -> Result<Self, KeyError>;
}

/// The bytes of `key`.
pub fn encode_key<K: Key>(key: &K) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_of::<K>());
    key.encode(&mut out);
    out
}

/// The key that `bytes` are, all of them.
///
/// # Errors
/// [`KeyError`] with the shape of `K` if `bytes` are not a key of it, or more than one.
pub fn decode_key<K: Key>(mut bytes: &[u8]) -> Result<K, KeyError> {
    let key = K::decode(&mut bytes).map_err(|error| KeyError::new(shape_of::<K>(), error.reason))?;
    if bytes.is_empty() { Ok(key) } else { Err(KeyError::new(shape_of::<K>(), "bytes follow after its end")) }
}

/// The bytes of a key as messages show them: text where they are that of one string, else hexadecimal after `0x`.
pub fn readable(bytes: &[u8]) -> String {
    let text = bytes.strip_suffix(&[0, 0]).and_then(|text| std::str::from_utf8(text).ok());
    if let Some(text) = text.filter(|text| !text.is_empty() && !text.contains(char::is_control)) {
        return format!("{text:?}");
    }
    bytes.iter().fold("0x".to_owned(), |mut out, byte| {
        // Writing to a string never fails.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What the bytes of a `K` consist of, for instance `(u64, String)`.
pub fn shape_of<K: Key>() -> String {
    let mut shape = String::new();
    K::shape(&mut shape);
    shape
}

/// A key that begins with a `P`: the bytes of a `P` begin those keys, and only those, whose first parts equal it.
///
/// A tuple begins with its first part, bare or as `(A,)`, and with each tuple of its first parts that is shorter than itself:
/// `(A, B, C)` begins with `A`, `(A,)` and `(A, B)`.
/// A struct can say the same of its first fields with an empty `impl`.
#[diagnostic::on_unimplemented(
    message = "keys of type `{Self}` do not begin with a `{P}`",
    label = "no prefix of `{Self}`",
    note = "keys `(A, B, C)` begin with `A`, `(A,)` or `(A, B)`",
    note = "a struct of keys begins with what its author says: `impl KeyPrefix<P> for Struct {{}}`, where `P` is its first field or a tuple of its first fields"
)]
pub trait KeyPrefix<P: Key>: Key {}

macro_rules! prefixes {
    ($key:tt: $($prefix:ty),+) => {
        $(prefixes!(@one $key: $prefix);)+
    };
    (@one ($($part:ident)+): $prefix:ty) => {
        impl<$($part: Key),+> KeyPrefix<$prefix> for ($($part),+) {}
    };
}

prefixes!((A B): A, (A,));
prefixes!((A B C): A, (A,), (A, B));
prefixes!((A B C D): A, (A,), (A, B), (A, B, C));
prefixes!((A B C D E): A, (A,), (A, B), (A, B, C), (A, B, C, D));
prefixes!((A B C D E F): A, (A,), (A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E));
