//! Exec: a program inside a running container, in a cgroup of its own so that it and all that it has
//! started can be ended as a whole.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    Shared,
    cgroup::Cgroup,
    create::terminal_size,
    error::ContainerError,
    instance::{Container, exit_of},
    launcher::{
        Child, LaunchError, Memory, Message, Messages, NewNamespaces, launch,
        spec::{Entry, Finish, Launch, Streams},
    },
    output::MAX_RECORD_BYTES,
    process::{ProcessError, Profile},
    stdio::{self, AgentEnds, Stream, read_some, write_all},
    sys,
};
use crate::{
    log,
    proto::{Channel, ExecRequest, ExecResponse, ExecStart, Exit, Stdio},
    reaper::{ExitStatus, Reaper},
};

/// How long a stream that something in the background keeps open may stay silent after the program has
/// ended.
const DRAIN_TIME: Duration = Duration::from_millis(1500);
/// Responses between the pumps and the transport.
const QUEUED_RESPONSES: usize = 4;

type Responses = mpsc::Sender<Result<ExecResponse, Status>>;

/// Prepares the process, and leaves the rest to a task. Dropping the receiver ends it.
pub fn start(
    shared: &Arc<Shared>,
    container: Arc<Container>,
    first: ExecRequest,
    requests: Streaming<ExecRequest>,
) -> Result<mpsc::Receiver<Result<ExecResponse, Status>>, ContainerError> {
    let request = first.start.clone().ok_or(ProcessError::Missing("start"))?;
    container.require_running()?;
    let stdio = request.stdio.unwrap_or_default();
    let cgroup = container.exec_cgroups.take(&container.cgroup)?;
    let (job, ends) = match prepare(shared, &container, &request, &stdio, &cgroup) {
        Ok(prepared) => prepared,
        Err(error) => {
            container.exec_cgroups.discard(cgroup);
            return Err(error);
        }
    };
    let (sender, receiver) = mpsc::channel(QUEUED_RESPONSES);
    let timeout = (request.timeout_ms != 0).then(|| Duration::from_millis(request.timeout_ms));
    // A time-out beyond what the clock can tell is none.
    let deadline = timeout.and_then(|it| Instant::now().checked_add(it));
    let session = Session {
        container,
        cgroup,
        responses: sender,
        deadline,
    };
    let result_only = request.result_only && !stdio.tty;
    tokio::spawn(session.run(
        job,
        ends,
        Input {
            stdio,
            first,
            requests,
            result_only,
        },
    ));
    Ok(receiver)
}

/// A process that is still to be made, and all that it needs for it.
struct Job {
    launch: Launch,
    argv0: String,
    container: Arc<Container>,
    cgroup: OwnedFd,
    memory: Memory,
    reaper: Reaper,
}

impl Job {
    /// Waits until execve if the process shares the agent's memory.
    fn make(self) -> Result<Child, LaunchError> {
        launch(
            &self.reaper,
            self.launch,
            &self.argv0,
            NewNamespaces::default(),
            Some(self.container.pidfd.as_fd()),
            self.cgroup.as_fd(),
            self.memory,
        )
    }
}

fn prepare(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    request: &ExecStart,
    stdio: &Stdio,
    cgroup: &Cgroup,
) -> Result<(Job, Option<AgentEnds>), ContainerError> {
    let process = request.process.as_ref().ok_or(ProcessError::Missing("start.process"))?;
    let argv0 = process.argv.first().cloned().ok_or(ProcessError::NoProgram)?;
    let profile = if request.inherit {
        Profile {
            oom_score_adj: container.oom_score_adj(),
            ..container.profile.with_environment(&process.env, stdio.tty)?
        }
    } else {
        Profile::resolve(process, container.open_root()?.as_fd(), stdio.tty, &shared.programs)?
    };
    let user_namespace = shared.context.sandbox.user_namespace();
    let owner = profile.owner(user_namespace.as_deref()).map_err(ProcessError::from)?;
    let io_failed = |source| ContainerError::Io {
        id: container.id.clone(),
        step: "make the streams of an exec",
        source,
    };
    let pipes = if stdio.tty {
        None
    } else {
        Some(stdio::pipes(stdio.stdin, owner).map_err(io_failed)?)
    };
    let streams = match &pipes {
        Some((_, ends)) => Streams::Files(ends.each_ref().map(AsRawFd::as_raw_fd)),
        None => Streams::Terminal(terminal_size(stdio)),
    };
    let program = profile.program(&process.argv, streams, false)?;
    let entry = Entry::Join {
        pidfd: container.pidfd.as_raw_fd(),
        user_namespace: user_namespace.is_some(),
    };
    let (agent_ends, process_ends) = pipes.unzip();
    let job = Job {
        launch: Launch {
            entry,
            finish: Finish::Execute(Box::new(program)),
            descriptors: process_ends.into_iter().flatten().collect(),
        },
        argv0,
        container: Arc::clone(container),
        cgroup: cgroup.open()?,
        memory: if shared.may_trace() {
            Memory::Copied
        } else {
            Memory::Shared
        },
        reaper: shared.context.reaper.clone(),
    };
    Ok((job, agent_ends))
}

struct Input {
    stdio: Stdio,
    /// The request that has started it may carry input as well.
    first: ExecRequest,
    requests: Streaming<ExecRequest>,
    /// Nobody waits to hear of the start.
    result_only: bool,
}

struct Session {
    container: Arc<Container>,
    cgroup: Cgroup,
    responses: Responses,
    deadline: Option<Instant>,
}

/// Why the process is not waited for any longer.
enum End {
    Exited(ExitStatus),
    TimedOut,
    ClientGone,
}

impl Session {
    async fn run(self, job: Job, ends: Option<AgentEnds>, input: Input) {
        // On the way to execve it may meet a file system that does not answer, which must not stop anything else.
        let made = tokio::task::spawn_blocking(move || job.make()).await;
        let made = made.map_err(|error| Status::internal(error.to_string()));
        let Child {
            pidfd,
            messages,
            mut watch,
            ..
        } = match made.and_then(|made| made.map_err(|error| ContainerError::from(error).into())) {
            Ok(child) => child,
            Err(status) => {
                let _ = self.responses.send(Err(status)).await;
                self.container.exec_cgroups.discard(self.cgroup);
                return;
            }
        };
        let result_only = input.result_only;
        let terminal = tokio::select! {
            result = until_executed(&messages), if !result_only => result,
            () = self.responses.closed(), if !result_only => Ok(None),
            else => Ok(None),
        };
        let terminal = match terminal.and_then(|fd| fd.map(stdio::stream).transpose().map_err(|error| failed(&error))) {
            Ok(terminal) => terminal.map(Arc::new),
            Err(status) => {
                self.kill();
                let _ = watch.await;
                let _ = self.responses.send(Err(status)).await;
                self.container.exec_cgroups.release(self.cgroup);
                return;
            }
        };
        if !result_only {
            let started = ExecResponse {
                started: true,
                ..ExecResponse::default()
            };
            let _ = self.responses.send(Ok(started)).await;
        }
        let (exited, has_exited) = watch::channel(false);
        let (stdin, output) = match ends {
            Some(ends) => {
                let output = vec![
                    (Arc::new(ends.stdout), Channel::Stdout),
                    (Arc::new(ends.stderr), Channel::Stderr),
                ];
                (ends.stdin.map(Arc::new), output)
            }
            None => (
                terminal.clone().filter(|_| input.stdio.stdin),
                terminal.iter().map(|it| (Arc::clone(it), Channel::Stdout)).collect(),
            ),
        };
        let pumps: Vec<_> = output
            .into_iter()
            .map(|(stream, channel)| tokio::spawn(pump(stream, channel, self.responses.clone(), has_exited.clone())))
            .collect();
        let handler = Handler { stdin, terminal, pidfd };
        let mut input_task = tokio::spawn(handler.run(input.first, input.requests));
        let end = tokio::select! {
            status = &mut watch => End::Exited(status.unwrap_or(ExitStatus::Code(255))),
            () = self.deadline_passed() => End::TimedOut,
            () = self.responses.closed() => End::ClientGone,
            () = client_lost(&mut input_task) => End::ClientGone,
        };
        let (status, timed_out) = match end {
            End::Exited(status) => (status, false),
            End::TimedOut | End::ClientGone => {
                self.kill();
                let status = watch.await.unwrap_or(ExitStatus::Code(255));
                (status, matches!(end, End::TimedOut))
            }
        };
        let exited_at_ns = sys::now_ns();
        let _ = exited.send(true);
        let timed_out = self.drain(pumps).await || timed_out;
        input_task.abort();
        let exit = Exit {
            exited_at_ns,
            timed_out,
            ..exit_of(status)
        };
        // It has ended, so there is nothing to wait for.
        let executed = if result_only {
            until_executed(&messages).await.map(drop)
        } else {
            Ok(())
        };
        let result = executed.map(|()| ExecResponse {
            exit: Some(exit),
            ..ExecResponse::default()
        });
        let _ = self.responses.send(result).await;
        // The result is on its way first.
        yield_now().await;
        self.container.exec_cgroups.release(self.cgroup);
    }

    fn kill(&self) {
        if let Err(error) = self.cgroup.kill() {
            log!("container {}: {error}", self.container.id);
        }
    }

    async fn deadline_passed(&self) {
        match self.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for the pumps to end. True if the time-out had to end what kept them busy.
    async fn drain(&self, pumps: Vec<tokio::task::JoinHandle<()>>) -> bool {
        let mut all = std::pin::pin!(async {
            for pump in pumps {
                let _ = pump.await;
            }
        });
        tokio::select! {
            () = &mut all => return false,
            () = self.deadline_passed() => {}
            () = self.responses.closed() => {}
        }
        self.kill();
        all.await;
        !self.responses.is_closed()
    }
}

/// The terminal, if there is one, once execve has happened.
async fn until_executed(messages: &Messages) -> Result<Option<OwnedFd>, Status> {
    let mut terminal = None;
    loop {
        match messages.next().await.map_err(ContainerError::from)? {
            Message::Terminal(fd) => terminal = Some(fd),
            Message::Executed => return Ok(terminal),
            Message::Ready => {}
        }
    }
}

fn failed(error: &std::io::Error) -> Status {
    Status::internal(format!("cannot watch the terminal: {error}"))
}

/// Never ends unless the client is gone; a client that has only said all it had to say is not.
async fn client_lost(input: &mut tokio::task::JoinHandle<Result<(), Status>>) {
    match input.await {
        Ok(Err(_)) => {}
        Ok(Ok(())) | Err(_) => std::future::pending().await,
    }
}

async fn pump(stream: Arc<Stream>, channel: Channel, responses: Responses, exited: watch::Receiver<bool>) {
    loop {
        let Ok(permit) = responses.reserve().await else { return };
        let mut data = bytes::Bytes::new();
        let more = read_some(
            &stream,
            || MAX_RECORD_BYTES,
            |part| data = bytes::Bytes::copy_from_slice(part),
        );
        let mut waiting = exited.clone();
        let silent = async {
            if waiting.wait_for(|it| *it).await.is_ok() {
                sleep(DRAIN_TIME).await;
            }
        };
        let more = tokio::select! {
            biased;
            more = more => more,
            () = silent => false,
        };
        if !data.is_empty() {
            permit.send(Ok(ExecResponse {
                channel: channel.into(),
                data,
                ..ExecResponse::default()
            }));
        }
        if !more {
            return;
        }
    }
}

/// What the client sends.
struct Handler {
    stdin: Option<Arc<Stream>>,
    terminal: Option<Arc<Stream>>,
    pidfd: OwnedFd,
}

impl Handler {
    /// An error: the client is gone.
    async fn run(mut self, first: ExecRequest, mut requests: Streaming<ExecRequest>) -> Result<(), Status> {
        self.handle(first).await;
        while let Some(request) = requests.message().await? {
            self.handle(request).await;
        }
        Ok(())
    }

    async fn handle(&mut self, request: ExecRequest) {
        if let (Some(resize), Some(terminal)) = (&request.resize, &self.terminal) {
            let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
            // It fails only if the terminal is gone, and so the program.
            let _ = sys::set_window_size(terminal.get_ref(), clamp(resize.width), clamp(resize.height));
        }
        if (1..=64).contains(&request.signal) {
            // A process that is gone needs no signal.
            let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), request.signal);
        }
        if let (false, Some(stdin)) = (request.stdin.is_empty(), &self.stdin)
            && write_all(stdin, &request.stdin).await.is_err()
        {
            // Nobody reads it any more; that is up to the program.
            self.stdin = None;
        }
        if request.stdin_eof {
            self.stdin = None;
        }
    }
}
