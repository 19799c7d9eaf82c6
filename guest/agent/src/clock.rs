//! The wall clock. A restored clone believes it is still the moment its template was frozen.

use rustix::{
    io::Result,
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};

const NANOS: i64 = 1_000_000_000;

/// What the daemon corrects is latency; more than this is a mistake.
pub const LARGEST_STEP_NS: u64 = 3_600 * 1_000_000_000;

pub fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(NANOS).saturating_add(now.tv_nsec)
}

pub fn set_ns(ns: i64) -> Result<()> {
    clock_settime(
        ClockId::Realtime,
        Timespec {
            tv_sec: ns.div_euclid(NANOS),
            tv_nsec: ns.rem_euclid(NANOS),
        },
    )
}
