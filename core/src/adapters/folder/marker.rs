//! The format marker: one small file that says what a store's folder holds, read before anything else is touched.

use std::path::Path;

use crate::error::StoreError;

/// The format this version writes.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 12] = b"aftercommit\n";
const JSON: u8 = 1;

/// Which engine a store is on. All are known, whichever are built in, so that a store on another one can be told by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::adapters) enum Which {
    Sled = 1,
    Redb = 2,
}

impl Which {
    const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    /// The engine's name, for messages.
    pub(in crate::adapters) const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    /// The engine it is on.
    pub(super) which: Which,
    /// What the engine said at creation and cannot change later.
    pub(super) fixed: Vec<u8>,
}

impl Marker {
    /// Magic, format number, engine, codec of events, what the engine said, checksum.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&[self.which as u8, JSON]);
        out.extend_from_slice(&self.fixed);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    /// Whether `bytes` begin as a marker does.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Which engine a marker names, if it is whole and one that is known.
    pub(super) fn which(bytes: &[u8]) -> Option<Which> {
        let known = |which: &Which| Self::decode(bytes, *which, Path::new("")).is_ok();
        Which::ALL.into_iter().find(known)
    }

    /// Reads what [`encode`](Self::encode) wrote, for the store in `path` that is opened as one on `asked`.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`], [`StoreError::OtherEngine`] or [`StoreError::Damaged`].
    pub(super) fn decode(bytes: &[u8], asked: Which, path: &Path) -> Result<Self, StoreError> {
        let damaged = |reason: &str| StoreError::Damaged {
            what: format!("the format marker of {path:?}"),
            reason: reason.to_owned(),
        };
        // The checksum stands last in every format, so that a newer one can be told from a damaged one.
        let Some((whole, sum)) = bytes.split_last_chunk() else { return Err(damaged("it ends early")) };
        let Some(body) = whole.strip_prefix(MAGIC) else {
            return Err(damaged("it does not begin as a marker does"));
        };
        if crc32fast::hash(whole) != u32::from_be_bytes(*sum) {
            return Err(damaged("its checksum is wrong"));
        }
        let Some((format, rest)) = body.split_first_chunk() else { return Err(damaged("it ends early")) };
        let found = u32::from_be_bytes(*format);
        if found > FORMAT {
            return Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
        }
        let [engine, codec, fixed @ ..] = rest else { return Err(damaged("it ends early")) };
        if *engine != asked as u8 {
            let known = Which::ALL.into_iter().find(|one| *one as u8 == *engine);
            let found =
                known.map_or_else(|| format!("an engine with the number {engine}"), |one| one.name().to_owned());
            return Err(StoreError::OtherEngine { path: path.to_owned(), found, asked: asked.name() });
        }
        if found != FORMAT || *codec != JSON {
            return Err(damaged("it does not say what this version expects"));
        }
        Ok(Self { which: asked, fixed: fixed.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Marker, StoreError> {
        Marker::decode(bytes, Which::Sled, Path::new("shop"))
    }

    #[test]
    fn a_marker_with_any_flipped_bit_or_cut_is_never_read() {
        let marker = Marker { which: Which::Sled, fixed: vec![0, 0x80, 0, 0] };
        let whole = marker.encode();
        assert_eq!(decode(&whole).expect("whole"), marker);
        for cut in 0..whole.len() {
            assert!(matches!(decode(&whole[..cut]), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped), Err(StoreError::Damaged { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_marker_is_told_by_its_number_whatever_else_it_says() {
        let mut newer = MAGIC.to_vec();
        newer.extend_from_slice(&7u32.to_be_bytes());
        newer.extend_from_slice(b"whatever a later version writes");
        newer.extend_from_slice(&crc32fast::hash(&newer).to_be_bytes());
        assert!(matches!(decode(&newer), Err(StoreError::NewerFormat { found: 7, known: FORMAT, .. })));
    }

    #[test]
    fn a_store_on_another_engine_is_told_by_that_engines_name() {
        let other = decode(&Marker { which: Which::Redb, fixed: vec![] }.encode()).expect_err("another engine");
        assert_eq!(
            other.to_string(),
            "\"shop\" is a store on redb, not on sled: open it as what it is, or use another folder; it was not touched"
        );
        let mut unknown = Marker { which: Which::Sled, fixed: vec![] }.encode();
        unknown.truncate(unknown.len() - 4);
        unknown[16] = 77;
        unknown.extend_from_slice(&crc32fast::hash(&unknown).to_be_bytes());
        let told = decode(&unknown).expect_err("another engine").to_string();
        assert!(told.contains("an engine with the number 77"), "{told}");
    }
}
