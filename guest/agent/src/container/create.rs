//! `CreateContainer`: from a request to a process that is held right before execve.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Shared,
    cgroup::{self, Cgroup},
    device_program, devices,
    error::ContainerError,
    instance::{Container, Parts},
    launcher::{
        Child, LaunchError, Memory, Message, NewNamespaces, launch,
        spec::{Entry, Finish, Launch, RootPlan, Streams, TerminalSize},
    },
    mounts,
    process::{ProcessError, Profile},
    stdio::{self, AgentEnds, Stream},
    user_namespace::Owner,
};
use crate::{
    log, paths,
    proto::{Channel, CreateContainerRequest, Stdio, namespaces::Mode},
    reaper::Watch,
};

/// All that can be made ready before there is a process.
struct Prepared {
    root: PathBuf,
    plan: RootPlan,
    profile: Profile,
    /// Who it runs as, for the guest's kernel.
    owner: Owner,
    cgroup: Cgroup,
    cgroup_fd: OwnedFd,
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
    let lost = ContainerError::TaskLost { id: request.id.clone() };
    let (inner, moved) = (Arc::clone(shared), request.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&inner, &moved, stdio.tty))
        .await
        .map_err(|_| lost)??;

    let new = NewNamespaces {
        mount: true,
        pid: pid_holder.is_none(),
        ipc: own_ipc,
    };
    let holder = pid_holder.as_ref().map(|it| it.as_fd());
    let Launched {
        child,
        ends,
        profile,
        root,
        cgroup,
    } = fork(shared, &request, &argv0, prepared, new, holder)?;
    let terminal = until_ready(&child).await?.map(stdio::stream).transpose();
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

struct Launched {
    child: Child,
    ends: Option<AgentEnds>,
    profile: Profile,
    root: PathBuf,
    cgroup: Cgroup,
}

/// Makes the streams and the process. What only the child needs is gone when this returns.
fn fork(
    shared: &Shared,
    request: &CreateContainerRequest,
    argv0: &str,
    prepared: Prepared,
    new: NewNamespaces,
    pid_namespace_of: Option<BorrowedFd<'_>>,
) -> Result<Launched, ContainerError> {
    let Prepared {
        root,
        plan,
        profile,
        owner,
        cgroup,
        cgroup_fd,
    } = prepared;
    let stdio = request.stdio.unwrap_or_default();
    let pipes = if stdio.tty {
        None
    } else {
        let pipes = stdio::pipes(stdio.stdin, owner);
        Some(pipes.map_err(|source| streams_failed(&request.id, source))?)
    };
    let streams = match &pipes {
        Some((_, ends)) => Streams::Files(ends.descriptors()),
        None => Streams::Terminal(terminal_size(&stdio)),
    };
    let argv = request
        .process
        .as_ref()
        .map(|process| process.argv.as_slice())
        .unwrap_or_default();
    let program = profile.program(argv, streams, true)?;
    let job = Launch {
        entry: Entry::Root(plan),
        finish: Finish::Execute(Box::new(program)),
    };
    let child = launch(
        &shared.context.reaper,
        &job,
        argv0,
        new,
        pid_namespace_of,
        cgroup_fd.as_fd(),
        Memory::Copied,
    )?;
    Ok(Launched {
        child,
        ends: pipes.map(|(agent, _process)| agent),
        profile,
        root,
        cgroup,
    })
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

/// The terminal, if the child has made one.
async fn until_ready(child: &Child) -> Result<Option<OwnedFd>, LaunchError> {
    let mut terminal = None;
    loop {
        match child.messages.next().await? {
            Message::Terminal(fd) => terminal = Some(fd),
            Message::Ready => return Ok(terminal),
            Message::Executed => return Err(LaunchError::Ended),
        }
    }
}

/// Blocks on the kernel.
fn prepare(shared: &Shared, request: &CreateContainerRequest, terminal: bool) -> Result<Prepared, ContainerError> {
    let user_namespace = shared.context.sandbox.user_namespace();
    let request = &CreateContainerRequest {
        devices: devices::resolve(&request.devices, user_namespace.as_deref())?,
        ..request.clone()
    };
    let rootfs = request.rootfs.as_ref().ok_or(ProcessError::Missing("rootfs"))?;
    let process = request.process.as_ref().ok_or(ProcessError::Missing("process"))?;
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
        Profile::resolve(process, folder.as_fd(), terminal, &shared.programs)?
    };
    let owner = profile.owner(user_namespace.as_deref()).map_err(ProcessError::from)?;
    let plan = mounts::plan(request, &root, &shared.context.rootfs, user_namespace.as_ref())?;
    let cgroup = Cgroup::parent(paths::CGROUP.as_ref())?.create_child(&request.id)?;
    cgroup.apply(&settings)?;
    if let Some(namespace) = &user_namespace {
        cgroup.delegate(namespace.root())?;
    }
    let cgroup_fd = cgroup.open()?;
    if let Some(rules) = rules {
        shared.devices.attach(rules, cgroup_fd.as_fd())?;
    }
    Ok(Prepared {
        root,
        plan,
        profile,
        owner,
        cgroup,
        cgroup_fd,
    })
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
