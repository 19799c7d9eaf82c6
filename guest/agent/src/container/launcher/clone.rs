//! clone3, and what the agent hears from the child.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::OnceLock,
};

use thiserror::Error;
use tokio::sync::OnceCell;

use super::{
    child,
    raw::raw,
    report::{KIND_FAILED, KIND_READY, KIND_TERMINAL, Report, SIZE, stage},
    spec::{Entry, Finish, Launch, Streams},
};
use crate::{
    container::{
        stdio::{self, Stream},
        sys,
    },
    reaper::{Pid, Reaper, Watch},
};

pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[derive(Debug, Error)]
pub enum LaunchError {
    /// The program itself: not there, not executable.
    #[error("exec: {argv0:?}: {reason}")]
    Execute { argv0: String, reason: String },
    #[error("cannot {step}: {}", plain(.source))]
    Step { step: String, source: io::Error },
    #[error("the process ended before it was ready")]
    Ended,
}

/// The text of an error without the number that Rust adds, and lower case as all of ours.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Namespaces that the child gets anew or shares.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewNamespaces {
    pub mount: bool,
    pub pid: bool,
    pub ipc: bool,
}

impl NewNamespaces {
    fn flags(self) -> u64 {
        let flag = |wanted: bool, flag: libc::c_int| if wanted { u64::from(flag.unsigned_abs()) } else { 0 };
        flag(self.mount, libc::CLONE_NEWNS) | flag(self.pid, libc::CLONE_NEWPID) | flag(self.ipc, libc::CLONE_NEWIPC)
    }
}

/// A child on its way to execve.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub messages: Messages,
    pub watch: Watch,
}

/// What the child says. The names of its steps are kept here, since the rest of the `Launch` is gone.
#[derive(Debug)]
pub struct Messages {
    socket: OwnedFd,
    /// The same socket, from when somebody listens on: whatever it says would wake the agent.
    listening: OnceCell<Stream>,
    labels: Vec<String>,
    argv0: String,
}

#[derive(Debug)]
pub enum Message {
    Ready,
    Terminal(OwnedFd),
    /// Execve has happened, or the process is gone.
    Executed,
}

/// Makes the child in `cgroup`, and in the pid namespace of `pid_namespace_of` if that is given.
///
/// Does not wait for anything but the kernel; there must be no await between setns and back, which
/// is why this is not async.
pub fn launch(
    reaper: &Reaper,
    launch: &Launch,
    argv0: &str,
    new: NewNamespaces,
    pid_namespace_of: Option<BorrowedFd<'_>>,
    cgroup: BorrowedFd<'_>,
) -> Result<Child, LaunchError> {
    let failed = |step: &str| {
        let step = step.to_owned();
        move |source| LaunchError::Step { step, source }
    };
    let (ours, theirs) = sys::message_socket_pair().map_err(failed("make a socket pair"))?;
    check_streams(launch).map_err(failed("use the standard streams"))?;
    let mut pidfd = -1;
    let spawned = reaper.spawn(|| {
        let _signals = BlockedSignals::new();
        let _namespace = pid_namespace_of.map(PidNamespace::enter).transpose()?;
        let arguments = CloneArguments {
            flags: new.flags() | u64::from(libc::CLONE_PIDFD.unsigned_abs()) | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP,
            pidfd: std::ptr::from_mut::<i32>(&mut pidfd) as u64,
            exit_signal: libc::SIGCHLD.unsigned_abs().into(),
            cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
            ..CloneArguments::default()
        };
        match clone3(&arguments)? {
            // SAFETY: this is the child, with one thread and memory of its own.
            0 => unsafe { child::run(launch, theirs.as_raw_fd()) },
            pid => Ok(pid),
        }
    });
    let (pid, watch) = spawned.map_err(failed("make a process"))?;
    // SAFETY: clone3 has succeeded, so it has stored a descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let labels = match &launch.entry {
        Entry::Root(plan) => plan.steps.iter().map(|step| step.label.clone()).collect(),
        _ => Vec::new(),
    };
    Ok(Child {
        pid,
        pidfd,
        messages: Messages {
            socket: ours,
            listening: OnceCell::new(),
            labels,
            argv0: argv0.to_owned(),
        },
        watch,
    })
}

/// 0 in the child, which goes on on a copy of this stack and must do nothing that takes a lock.
pub fn clone3(arguments: &CloneArguments) -> io::Result<Pid> {
    // SAFETY: the size is that of the structure. Without CLONE_VM the child has memory of its own.
    let result = unsafe { raw!(SYS_clone3, std::ptr::from_ref(arguments), size_of::<CloneArguments>()) };
    if result < 0 {
        let errno = i32::try_from(-result).unwrap_or(libc::EIO);
        return Err(io::Error::from_raw_os_error(errno));
    }
    Pid::try_from(result).map_err(io::Error::other)
}

/// The child moves its streams to 0, 1 and 2 one after the other and its socket to 3.
fn check_streams(launch: &Launch) -> io::Result<()> {
    match &launch.finish {
        Finish::Execute(program) => match &program.streams {
            Streams::Files(files) if files.iter().any(|fd| *fd < 3) => Err(io::Error::from_raw_os_error(libc::EBADF)),
            _ => Ok(()),
        },
        Finish::Pause => Ok(()),
    }
}

impl Messages {
    /// The next thing the child says.
    pub async fn next(&self) -> Result<Message, LaunchError> {
        let mut buffer = [0; SIZE];
        let listen = async || stdio::stream(self.socket.try_clone()?);
        let socket = self.listening.get_or_try_init(listen).await;
        let socket = socket.map_err(|source| LaunchError::Step {
            step: "watch the socket".to_owned(),
            source,
        })?;
        let received = socket.async_io(tokio::io::Interest::READABLE, |socket| {
            sys::receive(socket.as_fd(), &mut buffer)
        });
        let (count, descriptor) = match received.await {
            Ok(received) => received,
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => (0, None),
            Err(source) => {
                return Err(LaunchError::Step {
                    step: "hear from the process".to_owned(),
                    source,
                });
            }
        };
        let Some(report) = buffer.get(..count).and_then(Report::from_bytes) else {
            return Ok(Message::Executed);
        };
        match (report.kind, descriptor) {
            (KIND_READY, _) => Ok(Message::Ready),
            (KIND_TERMINAL, Some(terminal)) => Ok(Message::Terminal(terminal)),
            (KIND_FAILED, _) => Err(self.failure(report)),
            _ => Err(LaunchError::Ended),
        }
    }

    /// Lets a held child go on to execve.
    pub fn permit(&self) -> Result<(), LaunchError> {
        let bytes = [1u8];
        // SAFETY: the pointer and length are those of the array.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        if sent == 1 { Ok(()) } else { Err(LaunchError::Ended) }
    }

    fn failure(&self, report: Report) -> LaunchError {
        let errno = i32::try_from(report.errno).unwrap_or(libc::EIO);
        let source = io::Error::from_raw_os_error(errno);
        if report.stage == stage::EXECUTE {
            let reason = match errno {
                libc::ENOENT if !self.argv0.contains('/') => "executable file not found in $PATH".to_owned(),
                _ => plain(&source),
            };
            return LaunchError::Execute {
                argv0: self.argv0.clone(),
                reason,
            };
        }
        let root_step = report
            .stage
            .checked_sub(stage::ROOT_STEP)
            .and_then(|index| self.labels.get(index as usize));
        let step = root_step
            .cloned()
            .unwrap_or_else(|| stage::name(report.stage).to_owned());
        LaunchError::Step { step, source }
    }
}

/// struct `clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
pub struct CloneArguments {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// No signal handler of the agent may run in the child before its handlers are reset.
pub struct BlockedSignals {
    previous: u64,
}

impl BlockedSignals {
    pub fn new() -> Self {
        let (all, mut previous) = (u64::MAX, 0u64);
        let (all, old) = (std::ptr::from_ref(&all), std::ptr::from_mut(&mut previous));
        // SAFETY: both point to signal sets of 8 bytes that outlive the call.
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, all, old, 8) };
        Self { previous }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        let previous = std::ptr::from_ref(&self.previous);
        // SAFETY: points to a signal set of 8 bytes that outlives the call.
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, previous, 0, 8) };
    }
}

/// While it lives, children of this thread are made in another pid namespace.
struct PidNamespace;

static OWN_PID_NAMESPACE: OnceLock<OwnedFd> = OnceLock::new();

impl PidNamespace {
    fn enter(of: BorrowedFd<'_>) -> io::Result<Self> {
        // The way back must be known before the way in is taken.
        if OWN_PID_NAMESPACE.get().is_none() {
            let own = std::fs::File::open("/proc/self/ns/pid")?;
            let _ = OWN_PID_NAMESPACE.set(own.into());
        }
        set_pid_namespace(of)?;
        Ok(Self)
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        let back = OWN_PID_NAMESPACE.get().map(|own| set_pid_namespace(own.as_fd()));
        if !matches!(back, Some(Ok(()))) {
            // Every later container would end up in a namespace of another one.
            crate::log!("cannot return to the own pid namespace");
            std::process::abort();
        }
    }
}

fn set_pid_namespace(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { raw!(SYS_setns, fd.as_raw_fd(), libc::CLONE_NEWPID) } {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or(libc::EIO))),
    }
}
