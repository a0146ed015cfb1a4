//! What a child tells its parent: one line each on its standard output.

use std::fmt;
use std::str::FromStr;

/// A line of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// So many orders of the lane were placed when the child began.
    Found {
        lane: u32,
        placed: u64,
    },
    /// So many orders of the lane are placed, and the last of them was acknowledged.
    Acknowledged {
        lane: u32,
        placed: u64,
    },
    Sample(Sample),
    /// Something is wrong.
    Wrong(String),
    /// The last life has audited everything.
    Audited,
}

/// How a child stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    pub(crate) placed: u64,
    pub(crate) accounted: u64,
    pub(crate) parked: u64,
    /// How many log positions the slowest listener has not settled.
    pub(crate) behind: u64,
    /// Bytes on the disk, and in memory; 0 if unknown.
    pub(crate) store: u64,
    pub(crate) memory: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Found { lane, placed } => write!(out, "found {lane} {placed}"),
            Line::Acknowledged { lane, placed } => write!(out, "acknowledged {lane} {placed}"),
            Line::Sample(Sample { placed, accounted, parked, behind, store, memory }) => {
                write!(out, "sample {placed} {accounted} {parked} {behind} {store} {memory}")
            }
            Line::Wrong(what) => write!(out, "wrong {what}"),
            Line::Audited => out.write_str("audited"),
        }
    }
}

impl FromStr for Line {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "wrong" {
            return Ok(Line::Wrong(rest.to_owned()));
        }
        let numbers: Vec<u64> = rest.split_whitespace().map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let lane = |lane: u64| u32::try_from(lane).map_err(|_| ());
        Ok(match (word, &numbers[..]) {
            ("found", &[number, placed]) => Line::Found { lane: lane(number)?, placed },
            ("acknowledged", &[number, placed]) => Line::Acknowledged { lane: lane(number)?, placed },
            ("sample", &[placed, accounted, parked, behind, store, memory]) => {
                Line::Sample(Sample { placed, accounted, parked, behind, store, memory })
            }
            ("audited", []) => Line::Audited,
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_reads_back_as_written_and_a_cut_one_is_none() {
        let sample = Sample { placed: 9, accounted: 8, parked: 1, behind: 2, store: 1_000, memory: 2_000 };
        let wrong = Line::Wrong("two of them".to_owned());
        for line in [
            Line::Found { lane: 1, placed: 2 },
            Line::Acknowledged { lane: 3, placed: 4 },
            Line::Sample(sample),
            wrong,
            Line::Audited,
        ] {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        assert_eq!("sample 9 8".parse::<Line>(), Err(()));
    }
}
