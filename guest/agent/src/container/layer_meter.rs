//! The size of a container's writable layer. Counting means a walk over all its files, which may take
//! long: it goes on beside the calls that ask for it, one at a time, and never most of the time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::sys;
use crate::{proto::LayerFigures, rootfs::LayerUsage};

/// The pause after a count, in times of what it took.
const REST: u32 = 10;

#[derive(Debug, Default)]
struct State {
    last: Option<LayerFigures>,
    counting: bool,
    next: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct LayerMeter {
    state: Arc<Mutex<State>>,
}

/// A count under way. Dropped without a result, it makes room for the next one.
#[derive(Debug)]
pub struct Count {
    state: Arc<Mutex<State>>,
    started: Instant,
}

impl LayerMeter {
    /// None while another count runs, and for a while after a long one.
    pub fn begin(&self) -> Option<Count> {
        let mut state = lock(&self.state);
        let started = Instant::now();
        if state.counting || state.next.is_some_and(|next| started < next) {
            return None;
        }
        state.counting = true;
        Some(Count {
            state: Arc::clone(&self.state),
            started,
        })
    }

    pub fn last(&self) -> Option<LayerFigures> {
        lock(&self.state).last
    }
}

impl Count {
    pub fn finish(self, usage: LayerUsage) {
        self.finish_after(usage, self.started.elapsed());
    }

    fn finish_after(&self, usage: LayerUsage, took: Duration) {
        let mut state = lock(&self.state);
        state.next = Some(Instant::now() + took * REST);
        state.last = Some(LayerFigures {
            time_ns: sys::now_ns(),
            bytes: usage.bytes,
            inodes: usage.inodes,
        });
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        lock(&self.state).counting = false;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: LayerUsage = LayerUsage { bytes: 5, inodes: 1 };

    #[test]
    fn counts_one_at_a_time() {
        let meter = LayerMeter::default();
        let count = meter.begin().unwrap();
        assert!(meter.begin().is_none() && meter.last().is_none());
        count.finish_after(USAGE, Duration::ZERO);
        drop(count);
        assert_eq!(meter.last().unwrap().bytes, 5);
        assert!(meter.begin().is_some());
    }

    #[test]
    fn rests_after_a_long_one() {
        let meter = LayerMeter::default();
        let count = meter.begin().unwrap();
        count.finish_after(USAGE, Duration::from_mins(1));
        drop(count);
        assert!(meter.begin().is_none());
    }

    #[test]
    fn a_lost_count_does_not_block_the_next() {
        let meter = LayerMeter::default();
        drop(meter.begin());
        assert!(meter.begin().is_some());
    }
}
