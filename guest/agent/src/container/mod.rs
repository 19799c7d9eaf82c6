//! Containers of the pod: the calls of the service that have to do with them.

mod capabilities;
mod cgroup;
mod copy_tree;
mod create;
mod device_program;
mod devices;
mod error;
mod exec;
mod exec_cgroups;
mod guest_path;
mod instance;
mod launcher;
mod layer_meter;
mod mount_options;
mod mounts;
mod output;
mod pod_pid_namespace;
mod process;
mod resize;
mod seccomp;
mod stats;
mod stdio;
mod sys;
pub mod user_namespace;
mod users;
mod volumes;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

pub use self::launcher::plain;
use self::{
    capabilities::Capability, cgroup::Cgroup, device_program::DevicePrograms, error::ContainerError,
    instance::Container, output::Next, pod_pid_namespace::PodPidNamespace, seccomp::Programs,
};
use crate::{
    context::Context,
    log, paths,
    proto::{
        CreateContainerRequest, CreateContainerResponse, ExecRequest, ExecResponse, ListContainersRequest,
        ListContainersResponse, OutputRecord, OutputRequest, RemoveContainerRequest, RemoveContainerResponse,
        ResizeTtyRequest, ResizeTtyResponse, SignalContainerRequest, SignalContainerResponse, StartContainerRequest,
        StartContainerResponse, StatsRequest, StatsResponse, UpdateContainerRequest, UpdateContainerResponse,
        UpdateSandboxRequest, UpdateSandboxResponse, WriteStdinRequest, WriteStdinResponse,
    },
    service::ResponseStream,
};

const MAX_ID_BYTES: usize = 64;
/// One that is created but not started may keep a thread that blocks.
pub const MAX_CONTAINERS: usize = 1024;
/// Records between a container's queue and the transport.
const QUEUED_RECORDS: usize = 4;
/// How long statistics wait for the sizes of writable layers.
const LAYER_PATIENCE: Duration = Duration::from_millis(100);

/// All containers of the guest. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    shared: Arc<Shared>,
}

impl fmt::Debug for Containers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.shared.containers().keys()).finish()
    }
}

struct Shared {
    context: Context,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// One for each id that is being created or removed, so that a repeated request waits for the first.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    programs: Programs,
    devices: DevicePrograms,
    pod_pid_namespace: PodPidNamespace,
}

impl Shared {
    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Container>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Arc<Container>, ContainerError> {
        let found = self.containers().get(id).cloned();
        found.ok_or_else(|| ContainerError::NotFound(id.chars().take(MAX_ID_BYTES).collect()))
    }

    /// A process whose pid namespace a new container may share: before execve it may still have the agent's memory.
    fn pid_of_container(&self, id: &str) -> Result<OwnedFd, ContainerError> {
        let target = self.get(id)?;
        target.require_running()?;
        let failed = |source| ContainerError::Io {
            id: target.id.clone(),
            step: "copy its descriptor",
            source,
        };
        target.pidfd.try_clone().map_err(failed)
    }

    /// Whether a container's processes may look into those of others, as far as they see them.
    fn may_trace(&self) -> bool {
        let containers = self.containers();
        let mut bounds = containers.values().map(|it| it.profile.capabilities.bounding);
        bounds.any(|it| it.contains(Capability::SYS_PTRACE))
    }

    async fn pod_pid_namespace(&self) -> Result<OwnedFd, ContainerError> {
        self.pod_pid_namespace.holder(&self.context.reaper).await
    }

    async fn lock_id(&self, id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            // Locks that nobody else holds are not needed any more.
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(busy.entry(id.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

impl Containers {
    pub fn new(context: Context) -> Self {
        let shared = Shared {
            context,
            containers: Mutex::default(),
            busy: Mutex::default(),
            programs: Programs::default(),
            devices: DevicePrograms::default(),
            pod_pid_namespace: PodPidNamespace::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub async fn create(&self, request: CreateContainerRequest) -> Result<CreateContainerResponse, Status> {
        check_id(&request.id)?;
        let _busy = self.shared.lock_id(&request.id).await;
        let known = self.shared.containers().get(&request.id).cloned();
        if let Some(known) = known {
            // The answer to the same request may have got lost.
            return if known.request == request {
                Ok(created(&known))
            } else {
                Err(ContainerError::Exists(request.id).into())
            };
        }
        if self.shared.containers().len() >= MAX_CONTAINERS {
            return Err(Status::resource_exhausted(format!(
                "more than {MAX_CONTAINERS} containers"
            )));
        }
        let new = create::create(&self.shared, request).await?;
        let container = Arc::new(new.container);
        self.shared
            .containers()
            .insert(container.id.clone(), Arc::clone(&container));
        tokio::spawn(Arc::clone(&container).supervise(new.watch, new.streams));
        Ok(created(&container))
    }

    pub async fn start(&self, request: StartContainerRequest) -> Result<StartContainerResponse, Status> {
        let container = self.shared.get(&request.id)?;
        Ok(StartContainerResponse {
            started_at_ns: container.start().await?,
        })
    }

    /// Waits in the kernel while it takes memory back.
    pub fn update(&self, request: &UpdateContainerRequest) -> Result<UpdateContainerResponse, Status> {
        let container = self.shared.get(&request.id)?;
        if let Some(resources) = &request.resources {
            container.set_limits(resources)?;
        }
        if request.oom_score_adj != 0 {
            container.set_oom_score_adj(request.oom_score_adj)?;
        }
        Ok(UpdateContainerResponse {})
    }

    /// Waits in the kernel while it takes memory back.
    pub fn update_all(request: &UpdateSandboxRequest) -> Result<UpdateSandboxResponse, Status> {
        if let Some(resources) = &request.resources {
            let all = Cgroup::parent(paths::CGROUP.as_ref()).map_err(ContainerError::from)?;
            resize::limits(&all, resources).map_err(ContainerError::from)?;
        }
        Ok(UpdateSandboxResponse {})
    }

    #[allow(clippy::unused_async)] // each call of the service is one
    pub async fn signal(&self, request: SignalContainerRequest) -> Result<SignalContainerResponse, Status> {
        if !(1..=64).contains(&request.signal) {
            let value = request.signal.to_string();
            return Err(ContainerError::Invalid {
                field: "signal",
                value,
                expected: "from 1 to 64",
            }
            .into());
        }
        let delivered = self.shared.get(&request.id)?.signal(request.signal, request.all)?;
        Ok(SignalContainerResponse { delivered })
    }

    pub async fn remove(&self, request: RemoveContainerRequest) -> Result<RemoveContainerResponse, Status> {
        check_id(&request.id)?;
        let _busy = self.shared.lock_id(&request.id).await;
        let Ok(container) = self.shared.get(&request.id) else {
            return Ok(RemoveContainerResponse {});
        };
        // Nobody waits for the output of a container that is being removed.
        container.output.remove();
        create::release(&self.shared, &request.id).await?;
        self.shared.containers().remove(&request.id);
        Ok(RemoveContainerResponse {})
    }

    #[allow(clippy::unused_async)] // each call of the service is one
    pub async fn list(&self, _request: ListContainersRequest) -> Result<ListContainersResponse, Status> {
        let containers = self.shared.containers().values().map(|it| it.info()).collect();
        Ok(ListContainersResponse { containers })
    }

    pub async fn output(&self, mut requests: Streaming<OutputRequest>) -> Result<ResponseStream<OutputRecord>, Status> {
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the first message is missing"))?;
        let container = self.shared.get(&first.id)?;
        container.output.acknowledge(first.acknowledged);
        let (sender, receiver) = mpsc::channel(QUEUED_RECORDS);
        tokio::spawn(send_output(container, first.acknowledged, requests, sender));
        Ok(Box::pin(Received(receiver)))
    }

    pub async fn write_stdin(&self, mut requests: Streaming<WriteStdinRequest>) -> Result<WriteStdinResponse, Status> {
        let missing = || Status::invalid_argument("the first message is missing");
        let mut message = requests.message().await?.ok_or_else(missing)?;
        let container = self.shared.get(&message.id)?;
        let stdio = container.request.stdio.unwrap_or_default();
        if !stdio.stdin {
            return Err(ContainerError::Lacks {
                id: container.id.clone(),
                what: "standard input",
            }
            .into());
        }
        let mut written = 0u64;
        let outcome = loop {
            if !container.write_stdin(&message.data).await {
                break Ok(());
            }
            written += message.data.len() as u64;
            if message.eof {
                // A terminal has no end that could be closed for one direction.
                if !stdio.tty {
                    container.close_stdin().await;
                }
                break Ok(());
            }
            let next = tokio::select! {
                next = requests.message() => next,
                () = container.wait_for_exit() => break Ok(()),
            };
            match next {
                Ok(Some(next)) => message = next,
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        // Also when the client was cut off: it has gone, and the input was for one client.
        if stdio.stdin_once && !stdio.tty {
            container.close_stdin().await;
        }
        outcome?;
        Ok(WriteStdinResponse { written })
    }

    #[allow(clippy::unused_async)] // each call of the service is one
    pub async fn resize(&self, request: ResizeTtyRequest) -> Result<ResizeTtyResponse, Status> {
        let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        self.shared
            .get(&request.id)?
            .resize(clamp(request.width), clamp(request.height))?;
        Ok(ResizeTtyResponse {})
    }

    pub async fn exec(&self, mut requests: Streaming<ExecRequest>) -> Result<ResponseStream<ExecResponse>, Status> {
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the first message is missing"))?;
        let id = first
            .start
            .as_ref()
            .map(|start| start.container_id.clone())
            .unwrap_or_default();
        let container = self.shared.get(&id)?;
        let result_only = first.start.as_ref().is_some_and(|it| it.result_only);
        let mut responses = exec::start(&self.shared, container, first, requests)?;
        if !result_only {
            return Ok(Box::pin(Received(responses)));
        }
        // The head of the answer goes with the first message, and not before it.
        let first = responses.recv().await;
        Ok(Box::pin(tokio_stream::iter(first).chain(Received(responses))))
    }

    /// Figures of all containers; those of one that is being removed are left out.
    pub async fn stats(&self, request: StatsRequest) -> Result<StatsResponse, Status> {
        let containers: Vec<_> = self.shared.containers().values().cloned().collect();
        let deadline = tokio::time::Instant::now() + LAYER_PATIENCE;
        let counts: Vec<_> = containers.iter().filter_map(|it| self.count_layer(it)).collect();
        for count in counts {
            // One that takes longer goes on, and its result is there the next time.
            let _ = tokio::time::timeout_at(deadline, count).await;
        }
        let rootfs = self.shared.context.rootfs.clone();
        let collected = tokio::task::spawn_blocking(move || {
            let figures = containers
                .iter()
                .filter_map(|it| stats::collect(it, request.descriptors));
            StatsResponse {
                containers: figures.collect(),
                time_ns: sys::now_ns(),
                scratch: rootfs.scratch_figures(),
            }
        });
        collected.await.map_err(|error| Status::internal(error.to_string()))
    }

    fn count_layer(&self, container: &Arc<Container>) -> Option<tokio::task::JoinHandle<()>> {
        let count = container.layer.begin()?;
        let (rootfs, id) = (self.shared.context.rootfs.clone(), container.id.clone());
        Some(tokio::task::spawn_blocking(move || count.finish(rootfs.usage(&id))))
    }

    /// Ends every process of every container; called by Shutdown.
    pub async fn kill_all(&self) {
        let containers: Vec<_> = self.shared.containers().values().cloned().collect();
        let parent = Cgroup::parent(paths::CGROUP.as_ref());
        if let Err(error) = parent.and_then(|parent| parent.kill()) {
            log!("cannot end all containers: {error}");
        }
        for container in containers {
            container.wait_for_exit().await;
        }
    }
}

fn check_id(id: &str) -> Result<(), ContainerError> {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    if (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    let value = id.chars().take(MAX_ID_BYTES).collect();
    Err(ContainerError::Invalid {
        field: "id",
        value,
        expected: "made of 1 to 64 of a-z, 0-9 and -",
    })
}

fn created(container: &Container) -> CreateContainerResponse {
    CreateContainerResponse {
        pid: container.pid.unsigned_abs(),
        user: Some(container.user.clone()),
    }
}

async fn send_output(
    container: Arc<Container>,
    acknowledged: u64,
    mut requests: Streaming<OutputRequest>,
    records: mpsc::Sender<Result<OutputRecord, Status>>,
) {
    let reader = container.output.open_reader();
    let mut cursor = acknowledged;
    let mut listening = true;
    loop {
        let next = async {
            let permit = records.reserve().await.ok()?;
            Some((permit, container.output.next(reader, cursor).await))
        };
        tokio::select! {
            message = requests.message(), if listening => match message {
                Ok(Some(message)) => container.output.acknowledge(message.acknowledged),
                // It has nothing more to acknowledge but may still read.
                Ok(None) => listening = false,
                Err(_) => return,
            },
            () = records.closed() => return,
            next = next => {
                let Some((permit, next)) = next else { return };
                let status = match next {
                    Next::Record(record) => {
                        cursor = record.sequence;
                        permit.send(Ok(record));
                        continue;
                    }
                    Next::End => break,
                    Next::Superseded => ContainerError::Superseded(container.id.clone()),
                    Next::Removed => ContainerError::Removed(container.id.clone()),
                };
                permit.send(Err(status.into()));
                return;
            }
        }
    }
    // Ends the call for the client, whose last acknowledgements may still be under way.
    drop(records);
    while listening && let Ok(Some(message)) = requests.message().await {
        container.output.acknowledge(message.acknowledged);
    }
}

/// A channel's receiver as a stream.
struct Received<T>(mpsc::Receiver<T>);

impl<T> Stream for Received<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain() {
        for good in ["a", "0-9", &"x".repeat(64)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "..", "a/b", "a\0", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
