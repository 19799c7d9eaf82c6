//! Collects every child that exits, since PID 1 also inherits orphans that nobody waits for.
//!
//! A child is expected before it is made, and the kernel writes its pid down before it runs: one that
//! dies at once cannot be collected before its watcher is known.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

pub type Pid = libc::pid_t;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

/// Resolves when the child is gone and collected. An error never happens while the reaper lives.
pub type Watch = oneshot::Receiver<ExitStatus>;

/// No child has this pid.
const NONE: Pid = 0;

#[derive(Debug)]
struct Watcher {
    pid: Arc<AtomicI32>,
    sender: oneshot::Sender<ExitStatus>,
}

#[derive(Clone, Debug, Default)]
pub struct Reaper {
    watchers: Arc<Mutex<Vec<Watcher>>>,
}

/// A child that is about to be made, with SIGCHLD as its exit signal. Nobody waits for it any longer if this
/// is dropped before it has been.
#[derive(Debug)]
pub struct Expected {
    reaper: Reaper,
    pid: Arc<AtomicI32>,
}

impl Expected {
    /// Where `CLONE_PARENT_SETTID` has to write.
    pub fn place(&self) -> *mut Pid {
        self.pid.as_ptr()
    }

    /// None before it has been made.
    pub fn pid(&self) -> Option<Pid> {
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != NONE)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if self.pid().is_none() {
            self.reaper.lock().retain(|it| !Arc::ptr_eq(&it.pid, &self.pid));
        }
    }
}

impl Reaper {
    pub fn expect(&self) -> (Expected, Watch) {
        let pid = Arc::new(AtomicI32::new(NONE));
        let (sender, watch) = oneshot::channel();
        self.lock().push(Watcher {
            pid: Arc::clone(&pid),
            sender,
        });
        let reaper = self.clone();
        (Expected { reaper, pid }, watch)
    }

    /// Collects children for ever. Runs as one task of the agent's runtime.
    pub async fn run(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.collect();
            if children.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn collect(&self) {
        let mut watchers = self.lock();
        while let Some((pid, status)) = collect_one() {
            let watcher = watchers.iter().position(|it| it.pid.load(Ordering::Acquire) == pid);
            if let Some(index) = watcher {
                // A watcher that has lost interest is fine: the child is collected all the same.
                let _ = watchers.swap_remove(index).sender.send(status);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect_one() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    // SAFETY: waitpid writes only to `status`, which outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    if pid <= 0 {
        return None;
    }
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    };
    Some((pid, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_never_made_is_not_waited_for() {
        let reaper = Reaper::default();
        let (first, mut watch) = reaper.expect();
        let (second, _watch) = reaper.expect();
        second.pid.store(2, Ordering::Release);
        drop(first);
        assert!(watch.try_recv().is_err());
        drop(second);
        assert_eq!(
            reaper.lock().len(),
            1,
            "one that has been made is waited for until it ends"
        );
    }
}
