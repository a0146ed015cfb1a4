//! Keys of any type in one table.

use std::any::TypeId;
use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::key::{Key, decode_key, readable};

/// So many bytes of a key need no allocation.
const INLINE: usize = 24;

/// A key of any type, by its bytes: keys of different types never meet.
///
/// What a bus's own locks are named by: `AnyKey::of(&OrderId(7))`. Of several, the order is that of their types, then that of the
/// keys; it is the same everywhere in one process.
#[derive(Clone)]
pub struct AnyKey {
    kind: TypeId,
    spell: fn(&[u8], &mut fmt::Formatter<'_>) -> fmt::Result,
    bytes: Bytes,
}

#[derive(Clone)]
enum Bytes {
    Few(u8, [u8; INLINE]),
    Many(Box<[u8]>),
}

thread_local! {
    /// Where keys are encoded.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AnyKey {
    /// The key, and what its type is.
    pub fn of<K: Key + fmt::Debug>(key: &K) -> Self {
        let bytes = SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => {
                scratch.clear();
                key.encode(&mut scratch);
                Bytes::of(&scratch)
            }
            // A key that locks something while it is encoded.
            Err(_) => Bytes::of(&crate::key::encode_key(key)),
        });
        Self { kind: TypeId::of::<K>(), spell: spell::<K>, bytes }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Few(len, bytes) => &bytes[..usize::from(*len)],
            Bytes::Many(bytes) => bytes,
        }
    }
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let mut few = [0; INLINE];
        match (few.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(bytes);
                Self::Few(len, few)
            }
            _ => Self::Many(bytes.into()),
        }
    }
}

fn spell<K: Key + fmt::Debug>(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match decode_key::<K>(bytes) {
        Ok(key) => key.fmt(out),
        Err(_) => out.write_str(&readable(bytes)),
    }
}

impl fmt::Debug for AnyKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.spell)(self.bytes(), out)
    }
}

impl PartialEq for AnyKey {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bytes() == other.bytes()
    }
}

impl Eq for AnyKey {}

impl Hash for AnyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        state.write(self.bytes());
    }
}

impl PartialOrd for AnyKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AnyKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind, self.bytes()).cmp(&(other.kind, other.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_type_and_bytes_and_spelled_as_their_type_does() {
        assert_eq!(AnyKey::of(&1_u64), AnyKey::of(&1_u64));
        assert_ne!(AnyKey::of(&1_u64), AnyKey::of(&1_i64));
        assert_ne!(AnyKey::of(&1_u64), AnyKey::of(&2_u64));
        let long = "x".repeat(100);
        assert_eq!(AnyKey::of(&long), AnyKey::of(&long));
        assert_ne!(AnyKey::of(&long), AnyKey::of(&long[..99].to_owned()));
        assert_eq!(format!("{:?}", AnyKey::of(&(7_u32, "a".to_owned()))), "(7, \"a\")");
        assert!(AnyKey::of(&1_u64) < AnyKey::of(&2_u64));
    }
}
