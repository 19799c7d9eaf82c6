//! The Agent service: hands each call to the part that owns it.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    container::Containers,
    proto::{self, agent_server::Agent},
};

pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub struct Service {
    containers: Containers,
}

impl Service {
    pub fn new(containers: Containers) -> Self {
        Self { containers }
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type OutputStream = ResponseStream<proto::OutputRecord>;
    type ExecStream = ResponseStream<proto::ExecResponse>;

    async fn hello(&self, _: Request<proto::HelloRequest>) -> Result<Response<proto::HelloResponse>, Status> {
        Err(Status::unimplemented("hello"))
    }

    async fn configure_sandbox(
        &self,
        _: Request<proto::ConfigureSandboxRequest>,
    ) -> Result<Response<proto::ConfigureSandboxResponse>, Status> {
        Err(Status::unimplemented("configure_sandbox"))
    }

    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Result<Response<proto::CreateContainerResponse>, Status> {
        self.containers.create(request.into_inner()).await.map(Response::new)
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Result<Response<proto::StartContainerResponse>, Status> {
        self.containers.start(request.into_inner()).await.map(Response::new)
    }

    async fn signal_container(
        &self,
        request: Request<proto::SignalContainerRequest>,
    ) -> Result<Response<proto::SignalContainerResponse>, Status> {
        self.containers.signal(request.into_inner()).await.map(Response::new)
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Result<Response<proto::RemoveContainerResponse>, Status> {
        self.containers.remove(request.into_inner()).await.map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<proto::ListContainersRequest>,
    ) -> Result<Response<proto::ListContainersResponse>, Status> {
        self.containers.list(request.into_inner()).await.map(Response::new)
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
        self.containers.write_stdin(request.into_inner()).await.map(Response::new)
    }

    async fn resize_tty(
        &self,
        request: Request<proto::ResizeTtyRequest>,
    ) -> Result<Response<proto::ResizeTtyResponse>, Status> {
        self.containers.resize(request.into_inner()).await.map(Response::new)
    }

    async fn exec(
        &self,
        request: Request<Streaming<proto::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.containers.exec(request.into_inner()).await.map(Response::new)
    }

    async fn container_stats(
        &self,
        request: Request<proto::ContainerStatsRequest>,
    ) -> Result<Response<proto::ContainerStatsResponse>, Status> {
        self.containers.stats(request.into_inner()).await.map(Response::new)
    }

    async fn trim(&self, _: Request<proto::TrimRequest>) -> Result<Response<proto::TrimResponse>, Status> {
        Err(Status::unimplemented("trim"))
    }

    async fn shutdown(&self, _: Request<proto::ShutdownRequest>) -> Result<Response<proto::ShutdownResponse>, Status> {
        Err(Status::unimplemented("shutdown"))
    }
}
