//! How far a long command is: a bar, the rate and a summary, all on standard error.
//!
//! The bar is drawn only where standard error is a terminal; the summary always.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::replay::Replayed;

/// The progress of one command through the lines of a log.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Starts at no lines of `total`.
    pub fn start(total: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} lines, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        // Draws on standard error, and hides itself where that is no terminal.
        let bar = ProgressBar::new(total).with_style(style);
        Self { bar, started: Instant::now() }
    }

    /// So many more lines are done.
    pub fn advance(&self, lines: u64) {
        self.bar.inc(lines);
    }

    /// Removes the bar and writes what was done, how long it took and at which rate.
    pub fn finish(self, done: &str) {
        self.bar.finish_and_clear();
        // Nobody may be listening any more, and the work is done all the same.
        let _ = writeln!(io::stderr(), "{done}: {}", pace(self.bar.position(), self.started.elapsed()));
    }
}

/// What a replay did, how fast, and what it took.
///
/// The time until all units were applied, next to the time until the durable listeners had followed, tells which of them bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// What was worked off.
    pub replayed: Replayed,
    /// When the last unit was applied.
    pub applied: Duration,
    /// When the durable listeners had done what they were owed for them.
    pub settled: Duration,
}

impl Summary {
    /// Writes it to standard error.
    pub fn print(&self) {
        let _ = writeln!(io::stderr(), "{self}");
        if let Some(peak) = memory_peak() {
            let _ = writeln!(io::stderr(), "peak memory: {} MiB", peak / 1024);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replayed, applied, settled } = self;
        write!(
            f,
            "{} units, {} of them of orders: applied after {:.1} s, listeners done after {:.1} s ({:.0} orders/s)",
            replayed.units,
            replayed.orders,
            applied.as_secs_f64(),
            settled.as_secs_f64(),
            rate(replayed.orders, *settled),
        )?;
        if replayed.units_before > 0 {
            write!(f, "; {} units had been applied before", replayed.units_before)?;
        }
        if replayed.bad_units > 0 {
            write!(f, "; {} bad unit{} left out", replayed.bad_units, if replayed.bad_units == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}

/// The most memory this process ever held, in KiB, where the system tells it (Linux).
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn rate(count: u64, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn pace(lines: u64, took: Duration) -> String {
    format!("{lines} lines in {:.1} s ({:.0} lines/s)", took.as_secs_f64(), rate(lines, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_told_with_what_was_left_out_and_done_before() {
        let replayed = Replayed { units: 20, units_before: 3, bad_units: 1, orders: 10 };
        let summary = Summary { replayed, applied: Duration::from_secs(1), settled: Duration::from_secs(2) };
        assert_eq!(
            summary.to_string(),
            "20 units, 10 of them of orders: applied after 1.0 s, listeners done after 2.0 s (5 orders/s); \
             3 units had been applied before; 1 bad unit left out"
        );
    }

    #[test]
    fn the_summary_tells_lines_time_and_rate() {
        assert_eq!(pace(536_429, Duration::from_millis(2_000)), "536429 lines in 2.0 s (268214 lines/s)");
        assert_eq!(pace(0, Duration::ZERO), "0 lines in 0.0 s (0 lines/s)");
    }
}
