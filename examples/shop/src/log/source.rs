//! Where a log comes from: a file, plain or gzip, or the generator.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::lines::Text;
use super::units::Units;
use crate::generate::Month;

const BUFFER: usize = 64 * 1024;

/// A log that can be read as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of CSV text, plain or gzip.
    File(PathBuf),
    /// A made-up month; the same text as its file would have.
    Generated(Month),
}

/// What identifies the text of a log, whatever its file is called and however it is compressed.
///
/// Guards against mistakes, not against forgery: a 64-bit FNV-1a hash and the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// FNV-1a over the text.
    pub hash: u64,
    /// Length of the text in bytes, decompressed.
    pub bytes: u64,
    /// How many lines it has, the header and empty ones among them.
    pub lines: u64,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines, hash {:016x}", self.lines, self.hash)
    }
}

impl Source {
    /// The name that errors and messages tell it by.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Generated(month) => month.to_string(),
        }
    }

    /// Reads the units from the beginning.
    ///
    /// # Errors
    /// If the file cannot be opened or read, is empty or has another header.
    pub fn units(&self) -> Result<Units, LogError> {
        Units::new(self.name(), self.text()?)
    }

    /// Reads the whole text once, without looking at its rows.
    ///
    /// # Errors
    /// If the file cannot be opened or read to its end: a truncated gzip is found here, before any unit is worked off.
    pub fn content(&self) -> Result<Content, LogError> {
        let mut text = self.text()?;
        let mut content = Content { hash: FNV_BASIS, bytes: 0, lines: 0 };
        let mut last = b'\n';
        loop {
            let read = match text.fill_buf() {
                Ok(read) => read,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => return Err(LogError::reading(self.name(), content.lines + 1, cause)),
            };
            let Some(end) = read.last() else { break };
            last = *end;
            for byte in read {
                content.hash = (content.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
                content.lines += u64::from(*byte == b'\n');
            }
            content.bytes += read.len() as u64;
            let length = read.len();
            text.consume(length);
        }
        content.lines += u64::from(last != b'\n');
        Ok(content)
    }

    fn text(&self) -> Result<Text, LogError> {
        match self {
            Self::Generated(month) => Ok(Box::new(month.text())),
            Self::File(path) => {
                let failed = |cause| LogError::Open { file: self.name(), cause };
                let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(failed)?);
                let start = file.fill_buf().map_err(failed)?;
                if !start.starts_with(&GZIP_MAGIC) {
                    return Ok(Box::new(file));
                }
                Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))))
            }
        }
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
