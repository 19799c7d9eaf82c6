//! One container: its first process from the hold before execve to its end.
//!
//! ```text
//! create ──► CREATED ──start──► RUNNING ──► EXITED
//!               └─── killed, or execve failed ──┘
//! ```
//! Whatever the state, `remove` makes an end of it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    cgroup::Cgroup,
    error::ContainerError,
    exec_cgroups::ExecCgroups,
    launcher::{LaunchError, Message, Messages},
    layer_meter::LayerMeter,
    output::OutputLog,
    process::Profile,
    resize,
    stdio::{Stream, read_some, write_all},
    sys,
};
use crate::{
    log,
    proto::{self, Channel, ContainerInfo, CreateContainerRequest, Exit, container_info},
    reaper::{ExitStatus, Pid, Watch},
};

/// What runtimes use for a command that could not be run.
const EXIT_CANNOT_EXECUTE: i32 = 128;

#[derive(Debug, Default)]
struct State {
    started_at_ns: Option<i64>,
    /// Why execve has not happened.
    start_error: Option<String>,
    exit: Option<Exit>,
}

pub struct Container {
    pub id: String,
    /// To tell a repeated request from another one.
    pub request: CreateContainerRequest,
    pub user: proto::User,
    /// What Exec inherits.
    pub profile: Profile,
    pub root: PathBuf,
    pub cgroup: Cgroup,
    pub output: OutputLog,
    pub layer: LayerMeter,
    pub pid: Pid,
    pub pidfd: OwnedFd,
    messages: Messages,
    /// The agent's end of the terminal, if it has one.
    terminal: Option<Arc<Stream>>,
    /// None once it was closed. Locked while one message is written, so that messages do not mix.
    stdin: tokio::sync::Mutex<Option<Arc<Stream>>>,
    /// Held while the result of execve is awaited.
    starting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    exited: Notify,
    pub exec_cgroups: ExecCgroups,
    /// Of the processes there are and of those that Exec will add.
    oom_score_adj: AtomicI32,
}

/// The parts of a container that only `Container::new` puts together.
pub struct Parts {
    pub id: String,
    pub request: CreateContainerRequest,
    pub user: proto::User,
    pub profile: Profile,
    pub root: PathBuf,
    pub cgroup: Cgroup,
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub messages: Messages,
    pub terminal: Option<Arc<Stream>>,
    pub stdin: Option<Arc<Stream>>,
}

impl Container {
    pub fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            request: parts.request,
            user: parts.user,
            oom_score_adj: AtomicI32::new(parts.profile.oom_score_adj),
            profile: parts.profile,
            root: parts.root,
            cgroup: parts.cgroup,
            output: OutputLog::default(),
            layer: LayerMeter::default(),
            pid: parts.pid,
            pidfd: parts.pidfd,
            messages: parts.messages,
            terminal: parts.terminal,
            stdin: tokio::sync::Mutex::new(parts.stdin),
            starting: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            exited: Notify::new(),
            exec_cgroups: ExecCgroups::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has_exited(&self) -> bool {
        self.state().exit.is_some()
    }

    pub fn info(&self) -> ContainerInfo {
        let state = self.state();
        let phase = match (&state.exit, state.started_at_ns) {
            (Some(_), _) => container_info::State::Exited,
            (None, Some(_)) => container_info::State::Running,
            (None, None) => container_info::State::Created,
        };
        ContainerInfo {
            id: self.id.clone(),
            state: phase.into(),
            pid: self.pid.unsigned_abs(),
            started_at_ns: state.started_at_ns.unwrap_or(0),
            exit: state.exit.clone(),
            user: Some(self.user.clone()),
        }
    }

    /// An error unless the first process is past execve and still there.
    pub fn require_running(&self) -> Result<(), ContainerError> {
        let state = self.state();
        let found = match (&state.exit, state.started_at_ns) {
            (Some(_), _) => "exited",
            (None, None) => "created",
            (None, Some(_)) => return Ok(()),
        };
        Err(ContainerError::State {
            id: self.id.clone(),
            found,
            wanted: "running",
        })
    }

    pub async fn wait_for_exit(&self) {
        let mut exited = std::pin::pin!(self.exited.notified());
        exited.as_mut().enable();
        if !self.has_exited() {
            exited.await;
        }
    }

    /// Lets the held process go on; answers once execve has happened.
    pub async fn start(&self) -> Result<i64, ContainerError> {
        let _starting = self.starting.lock().await;
        {
            let state = self.state();
            if let Some(message) = &state.start_error {
                return Err(ContainerError::StartFailed(message.clone()));
            }
            // Started before: the answer got lost.
            if let Some(started_at) = state.started_at_ns {
                return Ok(started_at);
            }
            if state.exit.is_some() {
                return Err(ContainerError::State {
                    id: self.id.clone(),
                    found: "exited",
                    wanted: "created",
                });
            }
        }
        let result = match self.messages.permit() {
            Ok(()) => self.messages.next().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Message::Executed) => {
                let now = sys::now_ns();
                self.state().started_at_ns = Some(now);
                Ok(now)
            }
            Ok(_) => Err(LaunchError::Ended.into()),
            Err(error) => {
                self.state().start_error = Some(error.to_string());
                Err(error.into())
            }
        }
    }

    /// False once nobody reads it any more.
    pub async fn write_stdin(&self, data: &[u8]) -> bool {
        let mut stdin = self.stdin.lock().await;
        let Some(stream) = stdin.clone() else { return false };
        // The exit ends what a full pipe holds up: whoever has inherited its other end may never read.
        let written = tokio::select! {
            written = write_all(&stream, data) => written.is_ok(),
            () = self.wait_for_exit() => false,
        };
        if !written {
            stdin.take();
        }
        written
    }

    pub async fn close_stdin(&self) {
        self.stdin.lock().await.take();
    }

    /// False if the process is gone.
    pub fn signal(&self, signal: i32, all: bool) -> Result<bool, ContainerError> {
        if self.has_exited() {
            return Ok(false);
        }
        if all && signal == libc::SIGKILL {
            self.cgroup.kill()?;
            return Ok(true);
        }
        if all {
            let processes = self.cgroup.processes();
            for pid in &processes {
                // SAFETY: kill takes no pointers; the pid is positive, so it means one process.
                unsafe { libc::kill(*pid, signal) };
            }
            return Ok(!processes.is_empty());
        }
        match sys::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(source) => Err(self.failed("signal", source)),
        }
    }

    /// Nothing is left to be limited once it has exited.
    pub fn set_limits(&self, resources: &proto::Resources) -> Result<(), ContainerError> {
        if !self.has_exited() {
            resize::limits(&self.cgroup, resources)?;
        }
        Ok(())
    }

    pub fn set_oom_score_adj(&self, score: i32) -> Result<(), ContainerError> {
        if !(-1000..=1000).contains(&score) {
            return Err(ContainerError::Invalid {
                field: "oom_score_adj",
                value: score.to_string(),
                expected: "from -1000 to 1000",
            });
        }
        self.oom_score_adj.store(score, Ordering::Relaxed);
        resize::oom_score_adj(&self.cgroup, score).map_err(|source| self.failed("set oom_score_adj", source))
    }

    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<(), ContainerError> {
        let lacks = || ContainerError::Lacks {
            id: self.id.clone(),
            what: "terminal",
        };
        let terminal = self.terminal.as_ref().ok_or_else(lacks)?;
        sys::set_window_size(terminal.get_ref(), width, height).map_err(|source| self.failed("resize", source))
    }

    /// The root file system, for looking users up.
    pub fn open_root(&self) -> Result<File, ContainerError> {
        File::open(&self.root).map_err(|source| self.failed("open its root", source))
    }

    /// Moves output until both streams have ended, and keeps the end of the process.
    pub async fn supervise(self: Arc<Self>, watch: Watch, streams: Vec<(Stream, Channel)>) {
        let terminal = self.terminal.clone();
        let pump_terminal = async {
            if let Some(terminal) = &terminal {
                self.pump(terminal, Channel::Stdout).await;
            }
        };
        let mut streams = streams.into_iter();
        let (first, second) = (streams.next(), streams.next());
        let pump = |stream: Option<(Stream, Channel)>| async {
            if let Some((stream, channel)) = stream {
                self.pump(&stream, channel).await;
            }
        };
        let ended = async {
            let status = watch.await;
            let exited_at_ns = sys::now_ns();
            // What it has left behind would keep the pipes open.
            if let Err(error) = self.cgroup.kill() {
                log!("container {}: {error}", self.id);
            }
            let _starting = self.starting.lock().await;
            let exit = self.exit(status.unwrap_or(ExitStatus::Code(255)), exited_at_ns);
            self.state().exit = Some(exit.clone());
            self.exited.notify_waiters();
            self.close_stdin().await;
            exit
        };
        let ((), (), (), exit) = tokio::join!(pump_terminal, pump(first), pump(second), ended);
        self.output.finish(exit);
    }

    async fn pump(&self, stream: &Stream, channel: Channel) {
        loop {
            self.output.wait_for_room().await;
            let more = read_some(
                stream,
                || self.output.available(),
                |data| self.output.push(channel, data, sys::now_ns()),
            );
            if !more.await {
                return;
            }
        }
    }

    fn exit(&self, status: ExitStatus, exited_at_ns: i64) -> Exit {
        let oom_killed = self.cgroup.oom_kills() > 0;
        match &self.state().start_error {
            Some(error) => Exit {
                code: EXIT_CANNOT_EXECUTE,
                error: error.clone(),
                exited_at_ns,
                ..Exit::default()
            },
            None => Exit {
                oom_killed,
                exited_at_ns,
                ..exit_of(status)
            },
        }
    }

    fn failed(&self, step: &'static str, source: io::Error) -> ContainerError {
        ContainerError::Io {
            id: self.id.clone(),
            step,
            source,
        }
    }
}

/// As a shell would tell it.
pub fn exit_of(status: ExitStatus) -> Exit {
    match status {
        ExitStatus::Code(code) => Exit {
            code,
            ..Exit::default()
        },
        ExitStatus::Signal(signal) => Exit {
            code: 128 + signal,
            signal,
            ..Exit::default()
        },
    }
}
