// SPDX-License-Identifier: GPL-2.0

//! Messages that an error may cause many times over.

use crate::bindings;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Length of the time in which messages are counted.
const INTERVAL_MS: i64 = 5000;

/// Messages of one place in that time.
const BURST: u32 = 10;

/// How often a place in the source has had its say lately.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Number of the interval in which `said` counts.
    interval: AtomicU64,
    said: AtomicU32,
}

impl RateLimit {
    /// A place that has said nothing.
    pub(crate) const fn new() -> Self {
        Self {
            interval: AtomicU64::new(0),
            said: AtomicU32::new(0),
        }
    }

    /// Whether the place may say something now. Any context; now and then it is one more than it should be.
    pub(crate) fn allows(&self) -> bool {
        // SAFETY: The function has no requirements.
        let now = unsafe { bindings::ktime_get() };
        // CAST: the clock counts from the start of the machine, so it is not negative.
        let now = (now / (INTERVAL_MS * 1_000_000) + 1) as u64;
        if self.interval.swap(now, Ordering::Relaxed) != now {
            self.said.store(0, Ordering::Relaxed);
        }
        self.said.load(Ordering::Relaxed) < BURST
            && self.said.fetch_add(1, Ordering::Relaxed) < BURST
    }
}

/// Calls a print macro, unless this place has called it too often lately.
///
/// ```ignore
/// ratelimited!(md_warn!("md/raid:{}: mismatch at {}\n", name, sector));
/// ```
#[macro_export]
macro_rules! ratelimited {
    ($print:expr) => {{
        static LIMIT: $crate::ratelimit::RateLimit = $crate::ratelimit::RateLimit::new();
        if LIMIT.allows() {
            $print;
        }
    }};
}
