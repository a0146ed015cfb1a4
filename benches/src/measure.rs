//! Processor time, memory, and tables.

use std::time::Duration;

use tokio::runtime::Runtime;

/// A runtime with two threads that work.
///
/// # Panics
/// If there is none to be had.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The processor time of this process in microseconds, where the system tells it (in hundredths of a second).
pub fn busy() -> f64 {
    busy_of("self")
}

/// The processor time of a process in microseconds.
pub fn busy_of(process: &str) -> f64 {
    // User and system time, counted from behind the name.
    stat(process).iter().skip(12).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// What the system says about a process, from behind its name; nothing where it says nothing.
pub fn stat(process: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.rsplit(')').next().unwrap_or_default().split(' ').map(str::to_owned).collect()
}

/// The most memory this process has held so far, in MiB; 0 where the system does not tell.
pub fn peak_memory() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The lowest, the middle and the highest of them.
pub fn spread(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// Prints the head of a table.
pub fn table(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|---{}|", "|---:".repeat(columns.len() - 1));
}

/// Moments within `span`, `rate` a second on average, as they come from many who know nothing of each other.
pub fn moments(rate: f64, span: Duration) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut at = 0.0;
    std::iter::from_fn(|| {
        at += -(1.0 - random.f64()).ln() / rate;
        (at < span.as_secs_f64()).then(|| Duration::from_secs_f64(at))
    })
    .collect()
}
