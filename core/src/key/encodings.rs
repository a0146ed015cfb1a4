//! The keys that come with the bus, by the table of bytes of the [module](super) above.

use uuid::Uuid;

use super::{Key, shape_of};
use crate::clock::Timestamp;
use crate::error::KeyError;

fn take<'a, K: Key>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], KeyError> {
    let (taken, rest) = input.split_at_checked(count).ok_or_else(|| too_short::<K>())?;
    *input = rest;
    Ok(taken)
}

fn take_array<K: Key, const N: usize>(input: &mut &[u8]) -> Result<[u8; N], KeyError> {
    let (taken, rest) = input.split_first_chunk().ok_or_else(|| too_short::<K>())?;
    *input = rest;
    Ok(*taken)
}

fn too_short<K: Key>() -> KeyError {
    KeyError::new(shape_of::<K>(), "it ends too soon")
}

macro_rules! unsigned {
    ($($int:ident)*) => {$(
        impl Key for $int {
            fn shape(out: &mut String) {
                out.push_str(stringify!($int));
            }

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
                take_array::<Self, _>(input).map(Self::from_be_bytes)
            }
        }
    )*};
}

macro_rules! signed {
    ($($int:ident)*) => {$(
        impl Key for $int {
            fn shape(out: &mut String) {
                out.push_str(stringify!($int));
            }

            fn encode(&self, out: &mut Vec<u8>) {
                // Flipping the sign bit of two's complement turns the order of signed integers into that of unsigned ones.
                out.extend_from_slice(&(self ^ Self::MIN).to_be_bytes());
            }

            fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
                take_array::<Self, _>(input).map(|bytes| Self::from_be_bytes(bytes) ^ Self::MIN)
            }
        }
    )*};
}

unsigned!(u8 u16 u32 u64 u128);
signed!(i8 i16 i32 i64 i128);

impl Key for bool {
    fn shape(out: &mut String) {
        out.push_str("bool");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        match take_array::<Self, 1>(input)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(KeyError::new("bool", "it is neither 0 nor 1")),
        }
    }
}

impl Key for char {
    fn shape(out: &mut String) {
        out.push_str("char");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        let code = u32::from_be_bytes(take_array::<Self, _>(input)?);
        char::from_u32(code).ok_or_else(|| KeyError::new("char", "it is no code point"))
    }
}

impl Key for String {
    fn shape(out: &mut String) {
        out.push_str("String");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_escaped(self.as_bytes(), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        String::from_utf8(take_escaped::<Self>(input)?).map_err(|_| KeyError::new("String", "it is not UTF-8"))
    }
}

impl Key for Vec<u8> {
    fn shape(out: &mut String) {
        out.push_str("Vec<u8>");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_escaped(self, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        take_escaped::<Self>(input)
    }
}

/// `00` begins both the end (`00 00`) and a zero within (`00 FF`), so that the end sorts before every continuation.
fn put_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    let mut parts = bytes.split(|byte| *byte == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&[0x00, 0xFF]);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0x00, 0x00]);
}

fn take_escaped<K: Key>(input: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    loop {
        let zero = input.iter().position(|byte| *byte == 0).ok_or_else(|| too_short::<K>())?;
        bytes.extend_from_slice(take::<K>(input, zero)?);
        match take_array::<K, 2>(input)? {
            [_, 0x00] => return Ok(bytes),
            [_, 0xFF] => bytes.push(0),
            _ => return Err(KeyError::new(shape_of::<K>(), "a zero byte is followed by neither 00 nor FF")),
        }
    }
}

impl<const N: usize> Key for [u8; N] {
    fn shape(out: &mut String) {
        out.push_str(&format!("[u8; {N}]"));
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        take_array::<Self, N>(input)
    }
}

impl Key for Uuid {
    fn shape(out: &mut String) {
        out.push_str("Uuid");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        take_array::<Self, 16>(input).map(Uuid::from_bytes)
    }
}

impl Key for Timestamp {
    fn shape(out: &mut String) {
        out.push_str("Timestamp");
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        u64::decode(input).map(Timestamp)
    }
}

impl<K: Key> Key for Option<K> {
    fn shape(out: &mut String) {
        out.push_str("Option<");
        K::shape(out);
        out.push('>');
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                key.encode(out);
            }
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        match take_array::<Self, 1>(input)? {
            [0] => Ok(None),
            [1] => K::decode(input).map(Some),
            _ => Err(KeyError::new(shape_of::<Self>(), "it begins with neither 0 nor 1")),
        }
    }
}

impl<A: Key> Key for (A,) {
    fn shape(out: &mut String) {
        A::shape(out);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
        Ok((A::decode(input)?,))
    }
}

macro_rules! tuple {
    ($first:ident $($rest:ident)+; $($index:tt)+) => {
        impl<$first: Key, $($rest: Key),+> Key for ($first, $($rest),+) {
            fn shape(out: &mut String) {
                out.push('(');
                $first::shape(out);
                $(
                    out.push_str(", ");
                    $rest::shape(out);
                )+
                out.push(')');
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }

            fn decode(input: &mut &[u8]) -> Result<Self, KeyError> {
                Ok(($first::decode(input)?, $($rest::decode(input)?),+))
            }
        }
    };
}

tuple!(A B; 0 1);
tuple!(A B C; 0 1 2);
tuple!(A B C D; 0 1 2 3);
tuple!(A B C D E; 0 1 2 3 4);
tuple!(A B C D E F; 0 1 2 3 4 5);
