//! How many calls may be made again in proportion to those that succeed, so that retries do not multiply an outage.

use std::sync::atomic::{AtomicU64, Ordering};

use super::settings::RetryBudget;

/// Thousandths of a retry that may still be made.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    share: AtomicU64,
    most: AtomicU64,
}

const ONE: u64 = 1_000;

impl Budget {
    pub(super) fn new(budget: Option<&RetryBudget>) -> Self {
        let made = Self { left: AtomicU64::new(0), share: AtomicU64::new(0), most: AtomicU64::new(0) };
        made.change(budget);
        made
    }

    pub(super) fn change(&self, budget: Option<&RetryBudget>) {
        let Some(budget) = budget else { return };
        let most = u64::from(budget.reserve) * ONE;
        self.share.store((budget.share * ONE as f64) as u64, Ordering::Relaxed);
        // The first budget begins full, also if it comes later.
        if self.most.swap(most, Ordering::Relaxed) == 0 {
            self.left.store(most, Ordering::Relaxed);
        } else {
            self.left.fetch_min(most, Ordering::Relaxed);
        }
    }

    /// A call succeeded.
    pub(super) fn deposit(&self) {
        let (left, most) = (self.left.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed));
        if left < most {
            self.left.fetch_add(self.share.load(Ordering::Relaxed), Ordering::Relaxed);
            self.left.fetch_min(most, Ordering::Relaxed);
        }
    }

    /// Whether a call may be made again; then it is paid for.
    pub(super) fn withdraw(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(ONE)).is_ok()
    }
}
