//! What was seen over time, and whether it stayed flat.

use std::time::Duration;

use crate::report::Sample;

const MIB: f64 = (1 << 20) as f64;

/// What must stay flat: its name, where it stands in a sample, and how many MiB more are no growth.
const WATCHED: [Watched; 2] = [("store", |one| one.store, 16.0), ("memory", |one| one.memory, 32.0)];

type Watched = (&'static str, fn(&Sample) -> u64, f64);

/// Samples by time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    seen: Vec<(Duration, Sample)>,
    printed: Option<Duration>,
}

impl Table {
    pub(crate) fn head() {
        println!(
            "{:>6} {:>6} {:>10} {:>10} {:>7} {:>7} {:>9} {:>10}",
            "time", "lives", "placed", "accounted", "parked", "behind", "store MiB", "memory MiB"
        );
    }

    /// Takes in a sample, and prints it if it is time for a row.
    pub(crate) fn add(&mut self, at: Duration, lives: usize, sample: Sample, every: Duration) {
        self.seen.push((at, sample));
        if self.printed.is_none_or(|last| at >= last + every) {
            self.printed = Some(at);
            row(at, lives, sample);
        }
    }

    /// What grew, in words: the highest value of the last third beside that of the third before it, with some room.
    pub(crate) fn grown(&self, time: Duration) -> Vec<String> {
        let third = time / 3;
        let most = |from: Duration, of: fn(&Sample) -> u64| {
            let within = self.seen.iter().filter(|(at, _)| *at >= from && *at < from + third);
            within.map(|(_, sample)| of(sample)).max().unwrap_or(0) as f64 / MIB
        };
        let mut grown = Vec::new();
        for (what, of, room) in WATCHED {
            let (before, after) = (most(third, of), most(2 * third, of));
            println!("{what}: at most {before:.1} MiB in the second third, {after:.1} MiB in the last");
            if after > before * 1.25 + room {
                grown.push(format!("the {what} grew from {before:.1} to {after:.1} MiB"));
            }
        }
        grown
    }
}

pub(crate) fn row(at: Duration, lives: usize, sample: Sample) {
    let Sample { placed, accounted, parked, behind, store, memory } = sample;
    let (store, memory) = (store as f64 / MIB, memory as f64 / MIB);
    println!(
        "{:>5}s {lives:>6} {placed:>10} {accounted:>10} {parked:>7} {behind:>7} {store:>9.1} {memory:>10.1}",
        at.as_secs()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_named_and_what_is_flat_is_not() {
        let time = Duration::from_secs(90);
        let run = |store: fn(u64) -> u64| {
            let mut table = Table::default();
            for second in 0..90 {
                let sample = Sample { store: store(second) << 20, memory: 50 << 20, ..Sample::default() };
                table.add(Duration::from_secs(second), 1, sample, time);
            }
            table.grown(time)
        };
        assert_eq!(run(|_| 60), Vec::<String>::new());
        assert_eq!(run(|second| 40 + second % 20), Vec::<String>::new());
        assert!(run(|second| 10 + 2 * second)[0].contains("the store grew"));
    }
}
