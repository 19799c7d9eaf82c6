//! `CreateContainer`: from a request to a process that is held right before execve.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Shared,
    capabilities::Capability,
    cgroup::{self, Cgroup},
    device_program, devices,
    error::ContainerError,
    instance::{Container, Parts},
    launcher::{
        self, Awaited, LaunchError, Memory, Message, Messages, NewNamespaces, Start,
        spec::{Entry, Finish, Launch, Streams, TerminalSize},
    },
    mounts,
    process::{ProcessError, Profile},
    stdio::{self, AgentEnds, Stream},
};
use crate::{
    log, paths,
    proto::{Channel, CreateContainerRequest, Stdio, namespaces::Mode},
    reaper::Watch,
};

/// What stays of the preparation of a process.
struct Prepared {
    awaited: Awaited,
    ends: Option<AgentEnds>,
    profile: Profile,
    root: PathBuf,
    cgroup: Cgroup,
}

/// The namespaces of the process.
struct Place {
    new: NewNamespaces,
    pid_namespace_of: Option<OwnedFd>,
}

/// A process that is still to be made.
struct Job {
    start: Start,
    place: Place,
    cgroup: OwnedFd,
    memory: Memory,
}

impl Job {
    /// If the process shares the agent's memory, waits until it has executed its program or is gone.
    fn make(self) -> Result<(), LaunchError> {
        let Place { new, pid_namespace_of } = self.place;
        let holder = pid_namespace_of.as_ref().map(AsFd::as_fd);
        self.start.run(new, holder, self.cgroup.as_fd(), self.memory)
    }
}

/// A created container, and what its supervisor needs.
pub struct Created {
    pub container: Container,
    pub watch: Watch,
    pub streams: Vec<(Stream, Channel)>,
}

/// Nothing is left of the container after an error.
pub async fn create(shared: &Arc<Shared>, request: CreateContainerRequest) -> Result<Created, ContainerError> {
    let id = request.id.clone();
    let result = attempt(shared, request).await;
    if result.is_err() {
        discard(shared, &id).await;
    }
    result
}

async fn attempt(shared: &Arc<Shared>, request: CreateContainerRequest) -> Result<Created, ContainerError> {
    let process = request.process.as_ref().ok_or(ProcessError::Missing("process"))?;
    let argv0 = process.argv.first().cloned().ok_or(ProcessError::NoProgram)?;
    let stdio = request.stdio.unwrap_or_default();
    let namespaces = request.namespaces.clone().unwrap_or_default();
    let pid_holder = match namespaces.pid() {
        Mode::Container => None,
        Mode::Pod => Some(shared.pod_pid_namespace().await?),
        Mode::Target => Some(shared.pid_of_container(&namespaces.pid_target)?),
    };
    let own_ipc = match namespaces.ipc() {
        Mode::Pod => false,
        Mode::Container if shared.context.sandbox.user_namespace().is_some() => {
            return Err(bad_ipc("CONTAINER", "POD in a pod with a user namespace"));
        }
        Mode::Container => true,
        Mode::Target => return Err(bad_ipc("TARGET", "POD or CONTAINER")),
    };
    let place = Place {
        new: NewNamespaces {
            mount: true,
            pid: pid_holder.is_none(),
            ipc: own_ipc,
        },
        pid_namespace_of: pid_holder,
    };
    let (inner, moved) = (Arc::clone(shared), request.clone());
    let (sender, prepared) = oneshot::channel();
    let thread = tokio::task::spawn_blocking(move || {
        let (prepared, job) = prepare(&inner, &moved, &argv0, place)?;
        // It may be held for long.
        drop((inner, moved));
        match sender.send(prepared) {
            Ok(()) => Ok(job.make()?),
            // Nobody wants the container any more.
            Err(_) => Ok(()),
        }
    });
    let held = async {
        // A thread that has failed has more to say than that it sends nothing.
        let Ok(prepared) = prepared.await else {
            return std::future::pending().await;
        };
        let terminal = until_ready(&prepared.awaited.messages).await?;
        Ok::<_, ContainerError>((prepared, terminal))
    };
    let (prepared, terminal) = tokio::select! {
        held = held => held?,
        error = failure(thread, &request.id) => return Err(error),
    };
    let Prepared {
        awaited,
        ends,
        profile,
        root,
        cgroup,
    } = prepared;
    let child = awaited.child()?;
    let terminal = terminal.map(stdio::stream).transpose();
    let terminal = terminal
        .map_err(|source| streams_failed(&request.id, source))?
        .map(Arc::new);
    let (stdin, streams) = split(ends, terminal.as_ref().filter(|_| stdio.stdin));
    let username = process
        .user
        .as_ref()
        .map(|user| user.username.clone())
        .unwrap_or_default();
    let container = Container::new(Parts {
        id: request.id.clone(),
        user: profile.identity.to_proto(&username),
        request,
        profile,
        root,
        cgroup,
        pid: child.pid,
        pidfd: child.pidfd,
        messages: child.messages,
        terminal,
        stdin,
    });
    Ok(Created {
        container,
        watch: child.watch,
        streams,
    })
}

fn bad_ipc(value: &str, expected: &'static str) -> ContainerError {
    ContainerError::Invalid {
        field: "namespaces.ipc",
        value: value.to_owned(),
        expected,
    }
}

fn streams_failed(id: &str, source: io::Error) -> ContainerError {
    ContainerError::Io {
        id: id.to_owned(),
        step: "make its streams",
        source,
    }
}

fn split(ends: Option<AgentEnds>, terminal: Option<&Arc<Stream>>) -> (Option<Arc<Stream>>, Vec<(Stream, Channel)>) {
    match ends {
        Some(ends) => {
            let streams = vec![(ends.stdout, Channel::Stdout), (ends.stderr, Channel::Stderr)];
            (ends.stdin.map(Arc::new), streams)
        }
        None => (terminal.cloned(), Vec::new()),
    }
}

pub fn terminal_size(stdio: &Stdio) -> TerminalSize {
    let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    TerminalSize {
        width: clamp(stdio.tty_width),
        height: clamp(stdio.tty_height),
    }
}

/// Why the thread that makes the process has failed. Never ends if it has not.
async fn failure(thread: JoinHandle<Result<(), ContainerError>>, id: &str) -> ContainerError {
    match thread.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => error,
        Err(_) => ContainerError::TaskLost { id: id.to_owned() },
    }
}

/// The terminal, if the child has made one.
async fn until_ready(messages: &Messages) -> Result<Option<OwnedFd>, LaunchError> {
    let mut terminal = None;
    loop {
        match messages.next().await? {
            Message::Terminal(fd) => terminal = Some(fd),
            Message::Ready => return Ok(terminal),
            Message::Executed => return Err(LaunchError::Ended),
        }
    }
}

/// All but the process. Blocks on the kernel.
fn prepare(
    shared: &Shared,
    request: &CreateContainerRequest,
    argv0: &str,
    place: Place,
) -> Result<(Prepared, Job), ContainerError> {
    let user_namespace = shared.context.sandbox.user_namespace();
    let request = &CreateContainerRequest {
        devices: devices::resolve(&request.devices, user_namespace.as_deref())?,
        ..request.clone()
    };
    let rootfs = request.rootfs.as_ref().ok_or(ProcessError::Missing("rootfs"))?;
    let process = request.process.as_ref().ok_or(ProcessError::Missing("process"))?;
    let stdio = request.stdio.unwrap_or_default();
    // Cheap checks before anything is acquired.
    let settings = cgroup::settings(&request.resources.clone().unwrap_or_default())?;
    let rules = device_program::rules(&request.devices)?;
    let root = shared.context.rootfs.mount(
        &request.id,
        &rootfs.image_disk,
        rootfs.keep_image,
        user_namespace.as_deref(),
    )?;
    let open_failed = |source| ContainerError::Io {
        id: request.id.clone(),
        step: "open its root",
        source,
    };
    let profile = {
        let folder = File::open(&root).map_err(open_failed)?;
        Profile::resolve(process, folder.as_fd(), stdio.tty, &shared.programs)?
    };
    let owner = profile.owner(user_namespace.as_deref()).map_err(ProcessError::from)?;
    let (plan, mut descriptors) = mounts::plan(request, &root, &shared.context.rootfs, user_namespace.as_ref())?;
    let cgroup = Cgroup::parent(paths::CGROUP.as_ref())?.create_child(&request.id)?;
    cgroup.apply(&settings)?;
    if let Some(namespace) = &user_namespace {
        cgroup.delegate(namespace.root())?;
    }
    let cgroup_fd = cgroup.open()?;
    if let Some(rules) = rules {
        shared.devices.attach(rules, cgroup_fd.as_fd())?;
    }
    let (ends, streams) = if stdio.tty {
        (None, Streams::Terminal(terminal_size(&stdio)))
    } else {
        let pipes = stdio::pipes(stdio.stdin, owner);
        let (agent, process) = pipes.map_err(|source| streams_failed(&request.id, source))?;
        let streams = Streams::Files(process.each_ref().map(AsRawFd::as_raw_fd));
        descriptors.extend(process);
        (Some(agent), streams)
    };
    let launch = Launch {
        entry: Entry::Root(plan),
        finish: Finish::Execute(Box::new(profile.program(&process.argv, streams, true)?)),
        descriptors,
    };
    let (awaited, start) = launcher::prepare(&shared.context.reaper, launch, argv0)?;
    let job = Job {
        start,
        memory: memory(&place, &profile),
        place,
        cgroup: cgroup_fd,
    };
    let prepared = Prepared {
        awaited,
        ends,
        profile,
        root,
        cgroup,
    };
    Ok((prepared, job))
}

/// The process may be held for long. Nobody sees it in a pid namespace of its own, which others may join only once it
/// has executed its program.
fn memory(place: &Place, profile: &Profile) -> Memory {
    if place.new.pid && !profile.capabilities.bounding.contains(Capability::SYS_PTRACE) {
        Memory::Shared
    } else {
        Memory::Copied
    }
}

/// Ends and frees whatever there is of a container. What cannot be freed is told on the console, since
/// the caller has another error to report.
async fn discard(shared: &Arc<Shared>, id: &str) {
    if let Err(error) = release(shared, id).await {
        log!("container {id}: cannot clean up: {error}");
    }
}

/// Processes, cgroup and root file system, in this order. Each part may be missing.
pub async fn release(shared: &Arc<Shared>, id: &str) -> Result<(), ContainerError> {
    Cgroup::parent(paths::CGROUP.as_ref())?.child(id).destroy().await?;
    let (rootfs, owned) = (shared.context.rootfs.clone(), id.to_owned());
    let unmounted = tokio::task::spawn_blocking(move || rootfs.unmount(&owned)).await;
    unmounted.map_err(|_| ContainerError::TaskLost { id: id.to_owned() })??;
    Ok(())
}
