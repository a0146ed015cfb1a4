//! The month as text, made while it is read.

use std::io::{self, BufRead, Read, Write};

use super::Month;
use super::shop::Shop;
use crate::log::HEADER;

/// How much text is made at a time, in bytes.
const PART: usize = 32 * 1024;

/// Reads a month's log, header first.
pub struct MonthText {
    shop: Shop,
    part: Vec<u8>,
    read: usize,
}

impl MonthText {
    pub(super) fn new(month: Month) -> Self {
        Self { shop: Shop::new(month), part: format!("{HEADER}\n").into_bytes(), read: 0 }
    }
}

impl BufRead for MonthText {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.part.len() {
            self.part.clear();
            self.read = 0;
            while self.part.len() < PART {
                let Some(line) = self.shop.next() else { break };
                writeln!(self.part, "{line}")?;
            }
        }
        Ok(&self.part[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read = self.part.len().min(self.read + amount);
    }
}

impl Read for MonthText {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut part = self.fill_buf()?;
        let read = part.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
