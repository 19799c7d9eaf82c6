//! Makes the child, and hears what it says.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use thiserror::Error;
use tokio::sync::OnceCell;

use super::{
    child,
    clone3::{BlockedSignals, CloneArguments, clone3, vfork},
    pid_namespace::PidNamespace,
    report::{KIND_FAILED, KIND_READY, KIND_TERMINAL, Report, SIZE, stage},
    spec::{Entry, Finish, Launch, Streams},
};
use crate::{
    container::{
        stdio::{self, Stream},
        sys,
    },
    reaper::{Expected, Pid, Reaper, Watch},
};

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
    fn flags(self) -> libc::c_int {
        let flag = |wanted: bool, flag: libc::c_int| if wanted { flag } else { 0 };
        flag(self.mount, libc::CLONE_NEWNS) | flag(self.pid, libc::CLONE_NEWPID) | flag(self.ipc, libc::CLONE_NEWIPC)
    }
}

/// What the child has between clone3 and execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A copy of the agent's.
    Copied,
    /// The agent's own: nothing is copied, and the calling thread waits until execve or the child's end. For
    /// children that nobody who may look into processes (`CAP_SYS_PTRACE`) can see; the agent is not dumpable, so that
    /// nobody else can look.
    Shared,
}

/// A child on its way to execve.
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

/// A child that a `Start` makes, or has made.
pub struct Awaited {
    pub messages: Messages,
    watch: Watch,
    birth: Arc<Birth>,
}

impl Awaited {
    /// To be called once the child has been made: its `Start` has returned, or it has said something.
    pub fn child(self) -> Result<Child, LaunchError> {
        let (pid, pidfd) = self.birth.child().ok_or(LaunchError::Ended)?;
        self.birth.give_up_descriptors();
        Ok(Child {
            pid,
            pidfd,
            messages: self.messages,
            watch: self.watch,
        })
    }
}

/// What the thread that makes the child shares with whoever hears from the child meanwhile.
struct Birth {
    expected: Expected,
    /// The kernel writes it before the child runs, like the pid; also for a child that it does not make in the end.
    pidfd: AtomicI32,
    /// What only the child needs. It must stay open until the child has its own, whoever has lost interest by then.
    descriptors: Mutex<Vec<OwnedFd>>,
}

const NO_DESCRIPTOR: RawFd = -1;

impl Birth {
    /// The descriptor is handed out once.
    fn child(&self) -> Option<(Pid, OwnedFd)> {
        let pid = self.expected.pid()?;
        let pidfd = self.pidfd.swap(NO_DESCRIPTOR, Ordering::AcqRel);
        // SAFETY: there is a child, so the kernel has stored a descriptor, and whoever takes it leaves none behind.
        (pidfd != NO_DESCRIPTOR).then(|| (pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }

    /// The child must have its own by now: nobody would see the end of a file that the agent keeps open.
    fn give_up_descriptors(&self) {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        // Closes the descriptor if nobody has asked for it.
        self.child();
    }
}

/// Makes a child that was prepared.
pub struct Start {
    launch: Launch,
    socket: RawFd,
    birth: Arc<Birth>,
}

/// Makes everything ready for a child.
pub fn prepare(reaper: &Reaper, mut launch: Launch, argv0: &str) -> Result<(Awaited, Start), LaunchError> {
    let (ours, theirs) = sys::message_socket_pair().map_err(failed("make a socket pair"))?;
    check_streams(&launch).map_err(failed("use the standard streams"))?;
    let labels = match &launch.entry {
        Entry::Root(plan) => plan.steps.iter().map(|step| step.label.clone()).collect(),
        _ => Vec::new(),
    };
    let socket = theirs.as_raw_fd();
    let mut descriptors = mem::take(&mut launch.descriptors);
    descriptors.push(theirs);
    let (expected, watch) = reaper.expect();
    let birth = Arc::new(Birth {
        expected,
        pidfd: AtomicI32::new(NO_DESCRIPTOR),
        descriptors: Mutex::new(descriptors),
    });
    let awaited = Awaited {
        messages: Messages {
            socket: ours,
            listening: OnceCell::new(),
            labels,
            argv0: argv0.to_owned(),
        },
        watch,
        birth: Arc::clone(&birth),
    };
    Ok((awaited, Start { launch, socket, birth }))
}

/// `prepare` and `Start::run` in one.
pub fn launch(
    reaper: &Reaper,
    launch: Launch,
    argv0: &str,
    new: NewNamespaces,
    pid_namespace_of: Option<BorrowedFd<'_>>,
    cgroup: BorrowedFd<'_>,
    memory: Memory,
) -> Result<Child, LaunchError> {
    let (awaited, start) = prepare(reaper, launch, argv0)?;
    start.run(new, pid_namespace_of, cgroup, memory)?;
    awaited.child()
}

impl Start {
    /// Makes the child in `cgroup`, and in the pid namespace of `pid_namespace_of` if that is given. After an error
    /// there is no child, and nothing will ever be heard of one.
    ///
    /// There must be no await between setns and back, which is why this is not async.
    pub fn run(
        self,
        new: NewNamespaces,
        pid_namespace_of: Option<BorrowedFd<'_>>,
        cgroup: BorrowedFd<'_>,
        memory: Memory,
    ) -> Result<(), LaunchError> {
        let Birth { expected, pidfd, .. } = &*self.birth;
        let arguments = CloneArguments::new(new.flags(), expected, pidfd.as_ptr()).into_cgroup(cgroup.as_raw_fd());
        self.process(arguments, pid_namespace_of, memory)
            .map_err(failed("make a process"))?;
        self.birth.give_up_descriptors();
        Ok(())
    }

    fn process(
        &self,
        arguments: CloneArguments,
        pid_namespace_of: Option<BorrowedFd<'_>>,
        memory: Memory,
    ) -> io::Result<()> {
        let _signals = BlockedSignals::new();
        let _namespace = pid_namespace_of.map(PidNamespace::enter).transpose()?;
        match memory {
            // SAFETY: `child` makes system calls and reads the launch, on a stack of its own.
            Memory::Shared => unsafe { vfork(arguments, run, self) },
            Memory::Copied => match clone3(&arguments)? {
                // SAFETY: this is the child, with one thread and memory of its own.
                0 => unsafe { run(self) },
                pid => Ok(pid),
            },
        }
        .map(drop)
    }
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Step {
        step: step.to_owned(),
        source,
    }
}

/// # Safety
/// As for `child::run`.
unsafe extern "C" fn run(start: &Start) -> ! {
    // SAFETY: the caller vouches for it.
    unsafe { child::run(&start.launch, start.socket) }
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[tokio::test]
    async fn a_child_that_could_not_be_made_is_an_error_of_its_start_alone() {
        let folder = File::open("/").unwrap();
        for memory in [Memory::Shared, Memory::Copied] {
            let (kept, other) = sys::pipe().unwrap();
            let launch = Launch {
                entry: Entry::Empty,
                finish: Finish::Pause,
                descriptors: vec![other],
            };
            let (awaited, start) = prepare(&Reaper::default(), launch, "").unwrap();
            // No cgroup, which the kernel finds out after it has chosen a number for the pidfd.
            let error = start.run(NewNamespaces::default(), None, folder.as_fd(), memory);
            assert!(matches!(error, Err(LaunchError::Step { step, .. }) if step == "make a process"));
            tokio::select! {
                biased;
                message = awaited.messages.next() => panic!("{message:?}"),
                () = tokio::task::yield_now() => {}
            }
            assert!(matches!(awaited.child(), Err(LaunchError::Ended)));
            assert_eq!(sys::read(kept.as_fd(), &mut [0]).unwrap(), 0, "nothing is kept open");
        }
    }
}
