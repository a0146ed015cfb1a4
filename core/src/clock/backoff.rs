//! How long to wait before the next call, by how many failed.

use std::time::Duration;

/// How long to wait before each further call.
///
/// In a file: `{ initial = "100ms", growth = { exponential = 2.0 }, max = "1m", jitter = 0.2 }`, where the growth may also be
/// `"fixed"` or `{ linear = "50ms" }`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    #[serde(with = "super::span")]
    initial: Duration,
    growth: Growth,
    #[serde(with = "super::span")]
    max: Duration,
    jitter: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Growth {
    Fixed,
    Linear(#[serde(with = "super::span")] Duration),
    Exponential(f64),
}

/// The longest wait, unless [`Backoff::max`] says otherwise.
const MAX: Duration = Duration::from_secs(60);

/// Waits `initial` before the second call and twice as long each time, up to one minute unless [`Backoff::max`] says otherwise.
pub const fn exponential(initial: Duration) -> Backoff {
    Backoff { initial, growth: Growth::Exponential(2.0), max: MAX, jitter: 0.0 }
}

/// Waits `initial` before the second call and `step` longer each time, up to one minute unless [`Backoff::max`] says otherwise.
pub const fn linear(initial: Duration, step: Duration) -> Backoff {
    Backoff { initial, growth: Growth::Linear(step), max: MAX, jitter: 0.0 }
}

/// Waits `wait` before each further call.
pub const fn fixed(wait: Duration) -> Backoff {
    Backoff { initial: wait, growth: Growth::Fixed, max: wait, jitter: 0.0 }
}

impl Backoff {
    /// The longest wait.
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// By how much an exponential wait grows each time; 2 by default.
    pub const fn factor(mut self, factor: f64) -> Self {
        if let Growth::Exponential(_) = self.growth {
            self.growth = Growth::Exponential(factor);
        }
        self
    }

    /// Spreads each wait evenly by up to this fraction of it, either way: `0.2` for 80 % to 120 %.
    pub const fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// How long to wait after `failed` calls failed, without jitter.
    pub fn after(&self, failed: u32) -> Duration {
        let times = failed.saturating_sub(1);
        let wait = match self.growth {
            Growth::Fixed => self.initial,
            Growth::Linear(step) => self.initial.saturating_add(step.saturating_mul(times)),
            Growth::Exponential(factor) => {
                let seconds = self.initial.as_secs_f64() * factor.powi(i32::try_from(times).unwrap_or(i32::MAX));
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        };
        wait.min(self.max)
    }

    /// As [`after`](Self::after), spread by a fraction drawn from `0.0..1.0`.
    pub(crate) fn spread(&self, failed: u32, drawn: f64) -> Duration {
        let wait = self.after(failed);
        if self.jitter == 0.0 {
            return wait;
        }
        let spread = wait.as_secs_f64() * (1.0 + self.jitter * (2.0 * drawn - 1.0));
        Duration::try_from_secs_f64(spread).unwrap_or(wait)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.initial.is_zero() && self.growth != Growth::Fixed {
            return Err("its backoff begins at zero: give it a first wait");
        }
        if matches!(self.growth, Growth::Linear(step) if step.is_zero()) {
            return Err("its linear backoff has a step of zero: use `fixed`");
        }
        if matches!(self.growth, Growth::Exponential(factor) if !(factor.is_finite() && factor > 1.0)) {
            return Err("its exponential backoff must grow: give it a factor above 1");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err("its jitter is a fraction of the wait: give one from 0.0 to 1.0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: Backoff) -> Vec<u128> {
        (1..6).map(|failed| backoff.after(failed).as_millis()).collect()
    }

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn nms_15_waits_are_constant_or_grow_by_a_step_or_multiply_up_to_the_cap() {
        assert_eq!(waits(fixed(millis(7))), [7; 5]);
        assert_eq!(waits(linear(millis(100), millis(50)).max(millis(220))), [100, 150, 200, 220, 220]);
        assert_eq!(waits(exponential(millis(100)).max(millis(350))), [100, 200, 350, 350, 350]);
        assert_eq!(waits(exponential(millis(100)).factor(3.0)), [100, 300, 900, 2_700, 8_100]);
        assert_eq!(exponential(millis(100)).after(u32::MAX), MAX, "it never overflows");
        assert_eq!(linear(millis(100), Duration::MAX).max(Duration::MAX).after(u32::MAX), Duration::MAX);
    }

    #[test]
    fn nms_15_jitter_stays_inside_its_bounds_and_none_changes_nothing() {
        let backoff = fixed(millis(1000)).jitter(0.2);
        assert_eq!([0.0, 0.5, 1.0].map(|drawn| backoff.spread(1, drawn).as_millis()), [800, 1000, 1200]);
        assert_eq!(fixed(millis(1000)).spread(1, 0.9).as_millis(), 1000);
    }

    #[test]
    fn nms_16_what_cannot_work_is_refused() {
        let refused = [
            exponential(Duration::ZERO),
            exponential(millis(1)).factor(1.0),
            exponential(millis(1)).factor(f64::NAN),
            linear(millis(1), Duration::ZERO),
            fixed(millis(1)).jitter(-0.1),
            fixed(millis(1)).jitter(1.1),
        ];
        assert!(refused.iter().all(|backoff| backoff.check().is_err()));
        assert!(fixed(Duration::ZERO).check().is_ok(), "to call again at once is legal");
    }
}
