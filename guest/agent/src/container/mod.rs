//! Containers of the pod.

use tonic::{Status, Streaming};

use crate::{
    context::Context,
    proto::{
        ContainerStatsRequest, ContainerStatsResponse, CreateContainerRequest, CreateContainerResponse, ExecRequest,
        ExecResponse, ListContainersRequest, ListContainersResponse, OutputRecord, OutputRequest,
        RemoveContainerRequest, RemoveContainerResponse, ResizeTtyRequest, ResizeTtyResponse, SignalContainerRequest,
        SignalContainerResponse, StartContainerRequest, StartContainerResponse, WriteStdinRequest, WriteStdinResponse,
    },
    service::ResponseStream,
};

/// All containers of the guest. Cheap to clone.
#[derive(Clone)]
pub struct Containers {
    _context: Context,
}

impl Containers {
    pub fn new(context: Context) -> Self {
        Self { _context: context }
    }

    pub async fn create(&self, _request: CreateContainerRequest) -> Result<CreateContainerResponse, Status> {
        Err(Status::unimplemented("create"))
    }

    pub async fn start(&self, _request: StartContainerRequest) -> Result<StartContainerResponse, Status> {
        Err(Status::unimplemented("start"))
    }

    pub async fn signal(&self, _request: SignalContainerRequest) -> Result<SignalContainerResponse, Status> {
        Err(Status::unimplemented("signal"))
    }

    pub async fn remove(&self, _request: RemoveContainerRequest) -> Result<RemoveContainerResponse, Status> {
        Err(Status::unimplemented("remove"))
    }

    pub async fn list(&self, _request: ListContainersRequest) -> Result<ListContainersResponse, Status> {
        Ok(ListContainersResponse::default())
    }

    pub async fn output(
        &self,
        _requests: Streaming<OutputRequest>,
    ) -> Result<ResponseStream<OutputRecord>, Status> {
        Err(Status::unimplemented("output"))
    }

    pub async fn write_stdin(&self, _requests: Streaming<WriteStdinRequest>) -> Result<WriteStdinResponse, Status> {
        Err(Status::unimplemented("write_stdin"))
    }

    pub async fn resize(&self, _request: ResizeTtyRequest) -> Result<ResizeTtyResponse, Status> {
        Err(Status::unimplemented("resize"))
    }

    pub async fn exec(&self, _requests: Streaming<ExecRequest>) -> Result<ResponseStream<ExecResponse>, Status> {
        Err(Status::unimplemented("exec"))
    }

    pub async fn stats(&self, _request: ContainerStatsRequest) -> Result<ContainerStatsResponse, Status> {
        Err(Status::unimplemented("stats"))
    }

    /// Ends every process of every container; called by Shutdown.
    pub async fn kill_all(&self) {}
}
