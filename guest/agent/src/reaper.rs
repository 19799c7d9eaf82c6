//! Collects every child that exits, since PID 1 also inherits orphans that nobody waits for.
//!
//! One lock covers "fork and register" and "collect and deliver": a child that dies at once cannot
//! be collected before its watcher is known. The lock is never held across an await.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

#[derive(Clone, Debug, Default)]
pub struct Reaper {
    watchers: Arc<Mutex<HashMap<Pid, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// Runs `fork`, which makes a child with SIGCHLD as its exit signal and returns its pid, and
    /// registers interest in that child before it can be collected.
    pub fn spawn(&self, fork: impl FnOnce() -> io::Result<Pid>) -> io::Result<(Pid, Watch)> {
        let mut watchers = self.lock();
        let pid = fork()?;
        let (sender, watch) = oneshot::channel();
        watchers.insert(pid, sender);
        Ok((pid, watch))
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
            if let Some(sender) = watchers.remove(&pid) {
                // A watcher that has lost interest is fine: the child is collected all the same.
                let _ = sender.send(status);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<ExitStatus>>> {
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
