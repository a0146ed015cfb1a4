//! An event in its stored form.
//!
//! The header is a fixed binary layout, so that it can be read without the event's type; the body is the codec's.
//! Framing, checksums and positions belong to the store.

use uuid::Uuid;

use super::Metadata;
use crate::clock::Timestamp;
use crate::error::StoreError;

/// What is known of a stored event without decoding its body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventHeader {
    /// Identity, time and descent.
    pub metadata: Metadata,
    /// The name it is stored under.
    pub name: String,
    /// The version of its stored form.
    pub version: u32,
    /// The codec of the body: 1 is JSON.
    pub codec: u8,
    /// Stored for later listeners: not to be pruned because nobody listens now.
    pub logged: bool,
    /// It was published for later, so that who listens durably may have changed when it became due: each durable listener's condition
    /// is asked when it is called.
    pub scheduled: bool,
    /// The bytes of its key; `None` for an event without one.
    pub key: Option<Vec<u8>>,
    /// The ids of durable listeners whose condition it did not meet when it was published.
    pub not_owed: Vec<String>,
}

/// An event in its stored form: header and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Readable without the event's type.
    pub header: EventHeader,
    /// The codec's bytes.
    pub body: Vec<u8>,
}

const LOGGED: u8 = 1;
const KEYED: u8 = 2;
const CAUSED: u8 = 4;
const SCHEDULED: u8 = 8;

impl EventHeader {
    /// The header of an event called `name` in the given version of its stored form, with a JSON body.
    pub fn new(metadata: Metadata, name: impl Into<String>, version: u32) -> Self {
        Self {
            metadata,
            name: name.into(),
            version,
            codec: super::JSON,
            logged: false,
            scheduled: false,
            key: None,
            not_owed: Vec::new(),
        }
    }
}

impl Envelope {
    /// About how many bytes [`encode`](Self::encode) writes.
    pub fn weight(&self) -> usize {
        64 + self.header.name.len()
            + self.header.key.as_ref().map_or(0, Vec::len)
            + self.header.not_owed.iter().map(|id| id.len() + 2).sum::<usize>()
            + self.body.len()
    }

    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = &self.header;
        let flags = if header.logged { LOGGED } else { 0 }
            | if header.key.is_some() { KEYED } else { 0 }
            | if header.metadata.causation.is_some() { CAUSED } else { 0 }
            | if header.scheduled { SCHEDULED } else { 0 };
        out.push(flags);
        out.push(header.codec);
        out.extend_from_slice(&header.version.to_be_bytes());
        out.extend_from_slice(header.metadata.id.as_bytes());
        out.extend_from_slice(&header.metadata.time.0.to_be_bytes());
        out.extend_from_slice(header.metadata.correlation.as_bytes());
        if let Some(cause) = header.metadata.causation {
            out.extend_from_slice(cause.as_bytes());
        }
        put_bytes(out, header.name.as_bytes());
        if let Some(key) = &header.key {
            put_bytes(out, key);
        }
        put_len(out, header.not_owed.len());
        for id in &header.not_owed {
            put_bytes(out, id.as_bytes());
        }
        out.extend_from_slice(&self.body);
    }

    /// The id of the event whose stored form begins with `bytes`.
    pub(crate) fn id_of(bytes: &[u8]) -> Option<Uuid> {
        const BEFORE: usize = 1 + 1 + 4;
        bytes.get(BEFORE..)?.first_chunk().map(|id| Uuid::from_bytes(*id))
    }

    /// The name of the event whose stored form begins with `bytes`.
    pub(crate) fn name_in(bytes: &[u8]) -> Option<&[u8]> {
        const BEFORE: usize = 1 + 1 + 4 + 16 + 8 + 16;
        let cause = if bytes.first()? & CAUSED != 0 { 16 } else { 0 };
        let (len, rest) = bytes.get(BEFORE + cause..)?.split_first_chunk()?;
        rest.get(..u32::from_be_bytes(*len) as usize)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes end early or are not text where text is due.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Input(bytes);
        let flags = input.byte()?;
        let codec = input.byte()?;
        let version = u32::from_be_bytes(input.array()?);
        let id = Uuid::from_bytes(input.array()?);
        let time = Timestamp(u64::from_be_bytes(input.array()?));
        let correlation = Uuid::from_bytes(input.array()?);
        let causation = if flags & CAUSED != 0 { Some(Uuid::from_bytes(input.array()?)) } else { None };
        let name = input.text()?;
        let key = if flags & KEYED != 0 { Some(input.bytes()?.to_vec()) } else { None };
        let not_owed = (0..input.len()?).map(|_| input.text()).collect::<Result<_, _>>()?;
        Ok(Self {
            header: EventHeader {
                metadata: Metadata { id, time, correlation, causation },
                name,
                version,
                codec,
                logged: flags & LOGGED != 0,
                scheduled: flags & SCHEDULED != 0,
                key,
                not_owed,
            },
            body: input.0.to_vec(),
        })
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // A header holds names and keys, which the bound on one event keeps far below 4 GiB.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        Ok(self.array::<1>()?[0])
    }

    fn len(&mut self) -> Result<usize, StoreError> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    fn bytes(&mut self) -> Result<&'a [u8], StoreError> {
        let len = self.len()?;
        self.take(len)
    }

    fn text(&mut self) -> Result<String, StoreError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| damaged("it is not text where text is due"))
    }
}

fn damaged(reason: &str) -> StoreError {
    StoreError::Damaged { what: "a stored event".to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_reads_back_as_written_and_every_cut_is_named() {
        let id = Uuid::from_u128(7);
        let metadata = Metadata { id, time: Timestamp(9), correlation: id, causation: Some(Uuid::from_u128(3)) };
        let mut header = EventHeader::new(metadata, "shop.order-placed", 2);
        header.key = Some(vec![0, 255]);
        header.not_owed = vec!["a".into(), "b.c".into()];
        header.logged = true;
        header.scheduled = true;
        let envelope = Envelope { header, body: b"{}".to_vec() };
        let mut bytes = Vec::new();
        envelope.encode(&mut bytes);
        assert_eq!(Envelope::decode(&bytes).expect("whole"), envelope);
        assert_eq!(Envelope::id_of(&bytes), Some(id));
        assert_eq!(Envelope::name_in(&bytes), Some(&b"shop.order-placed"[..]));
        bytes.clear();
        let mut uncaused = envelope.clone();
        uncaused.header.metadata.causation = None;
        uncaused.encode(&mut bytes);
        assert_eq!(Envelope::name_in(&bytes), Some(&b"shop.order-placed"[..]));
        bytes.clear();
        envelope.encode(&mut bytes);
        for cut in 0..bytes.len() - envelope.body.len() {
            assert!(matches!(Envelope::decode(&bytes[..cut]), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
    }
}
