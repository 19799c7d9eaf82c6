//! The Agent service: hands each call to the part that owns it.

use std::{future::Future, pin::Pin};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    clock,
    container::Containers,
    context::Context,
    entropy, maintenance, pod_files, port_forward,
    proto::{self, agent_server::Agent},
};

/// Version of proto/agent that this agent speaks.
const PROTOCOL: u32 = 1;

pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
pub struct Service {
    context: Context,
    containers: Containers,
}

impl Service {
    pub fn new(context: Context, containers: Containers) -> Self {
        Self { context, containers }
    }
}

/// Runs a call to its end even if the connection it came by is lost meanwhile: one that was dropped
/// half-way would leave half a container. A bug that panics ends the call and nothing else.
async fn complete<T: Send + 'static>(
    call: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    tokio::spawn(call)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map(Response::new)
}

/// For work that waits in the kernel.
async fn complete_blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<Response<T>, Status> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map(Response::new)
}

#[tonic::async_trait]
impl Agent for Service {
    type OutputStream = ResponseStream<proto::OutputRecord>;
    type ExecStream = ResponseStream<proto::ExecResponse>;
    type PortForwardStream = ResponseStream<proto::PortForwardResponse>;

    async fn hello(&self, _: Request<proto::HelloRequest>) -> Result<Response<proto::HelloResponse>, Status> {
        let kernel = rustix::system::uname();
        Ok(Response::new(proto::HelloResponse {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: kernel.release().to_string_lossy().into_owned(),
            boot_id: self.context.sandbox.boot_id(),
            machine_id: pod_files::machine_id(),
            clock_ns: clock::now_ns(),
            random: entropy::random::<32>()
                .map_err(|error| Status::internal(format!("getrandom: {error}")))?
                .to_vec()
                .into(),
        }))
    }

    async fn configure_sandbox(
        &self,
        request: Request<proto::ConfigureSandboxRequest>,
    ) -> Result<Response<proto::ConfigureSandboxResponse>, Status> {
        let Context { sandbox, reaper, .. } = self.context.clone();
        complete_blocking(move || Ok(sandbox.configure(request.get_ref(), &reaper)?)).await
    }

    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Result<Response<proto::CreateContainerResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.create(request.into_inner()).await }).await
    }

    async fn forget_image(
        &self,
        request: Request<proto::ForgetImageRequest>,
    ) -> Result<Response<proto::ForgetImageResponse>, Status> {
        let rootfs = self.context.rootfs.clone();
        complete_blocking(move || {
            rootfs.forget(&request.get_ref().disk)?;
            Ok(proto::ForgetImageResponse {})
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Result<Response<proto::StartContainerResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.start(request.into_inner()).await }).await
    }

    async fn update_container(
        &self,
        request: Request<proto::UpdateContainerRequest>,
    ) -> Result<Response<proto::UpdateContainerResponse>, Status> {
        let containers = self.containers.clone();
        complete_blocking(move || containers.update(request.get_ref())).await
    }

    async fn update_sandbox(
        &self,
        request: Request<proto::UpdateSandboxRequest>,
    ) -> Result<Response<proto::UpdateSandboxResponse>, Status> {
        complete_blocking(move || Containers::update_all(request.get_ref())).await
    }

    async fn signal_container(
        &self,
        request: Request<proto::SignalContainerRequest>,
    ) -> Result<Response<proto::SignalContainerResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.signal(request.into_inner()).await }).await
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Result<Response<proto::RemoveContainerResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.remove(request.into_inner()).await }).await
    }

    async fn list_containers(
        &self,
        request: Request<proto::ListContainersRequest>,
    ) -> Result<Response<proto::ListContainersResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.list(request.into_inner()).await }).await
    }

    async fn output(
        &self,
        request: Request<Streaming<proto::OutputRequest>>,
    ) -> Result<Response<Self::OutputStream>, Status> {
        self.containers.output(request.into_inner()).await.map(Response::new)
    }

    async fn write_stdin(
        &self,
        request: Request<Streaming<proto::WriteStdinRequest>>,
    ) -> Result<Response<proto::WriteStdinResponse>, Status> {
        self.containers
            .write_stdin(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn resize_tty(
        &self,
        request: Request<proto::ResizeTtyRequest>,
    ) -> Result<Response<proto::ResizeTtyResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.resize(request.into_inner()).await }).await
    }

    async fn exec(
        &self,
        request: Request<Streaming<proto::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.containers.exec(request.into_inner()).await.map(Response::new)
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<proto::PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        let user_namespace = self.context.sandbox.user_namespace();
        let started = port_forward::start(request.into_inner(), user_namespace).await;
        started.map(Response::new)
    }

    async fn stats(&self, request: Request<proto::StatsRequest>) -> Result<Response<proto::StatsResponse>, Status> {
        let containers = self.containers.clone();
        complete(async move { containers.stats(request.into_inner()).await }).await
    }

    async fn adjust_clock(
        &self,
        request: Request<proto::AdjustClockRequest>,
    ) -> Result<Response<proto::AdjustClockResponse>, Status> {
        let delta_ns = request.get_ref().delta_ns;
        if delta_ns.unsigned_abs() > clock::LARGEST_STEP_NS {
            return Err(Status::invalid_argument("delta_ns: more than an hour"));
        }
        let moved = clock::now_ns().saturating_add(delta_ns);
        clock::set_ns(moved).map_err(|error| Status::internal(format!("set the clock: {error}")))?;
        Ok(Response::new(proto::AdjustClockResponse {
            clock_ns: clock::now_ns(),
        }))
    }

    async fn trim(&self, request: Request<proto::TrimRequest>) -> Result<Response<proto::TrimResponse>, Status> {
        let drop_caches = request.get_ref().drop_caches;
        complete_blocking(move || maintenance::trim(drop_caches).map(|()| proto::TrimResponse {})).await
    }

    async fn shutdown(&self, _: Request<proto::ShutdownRequest>) -> Result<Response<proto::ShutdownResponse>, Status> {
        let (containers, rootfs) = (self.containers.clone(), self.context.rootfs.clone());
        complete(async move {
            containers.kill_all().await;
            complete_blocking(move || maintenance::shut_down(&rootfs)).await?;
            Ok(proto::ShutdownResponse {})
        })
        .await
    }
}
