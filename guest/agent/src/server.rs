//! Serves gRPC on the connections that the line hands out.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::{
    container::Containers, context::Context, log, port::Port, proto::agent_server::AgentServer, service::Service,
    session::Line,
};

/// Small, so that a stream that nobody reads holds little and a busy one delays others little.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Room for every stream's window: one that is not read must never block the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const MAX_STREAMS: u32 = CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES;
/// A seccomp profile or a large environment is the most that a request holds.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;
const PORT_PATIENCE: Duration = Duration::from_secs(30);

/// Returns only on an error that leaves the guest unreachable.
pub async fn serve() -> io::Result<()> {
    let context = Context::default();
    let data = Port::open("kelyfos.agent", PORT_PATIENCE)?;
    let reset = Port::open("kelyfos.reset", PORT_PATIENCE)?;
    let line = Line::new(data, reset);
    let (sender, connections) = mpsc::channel(1);
    let service = AgentServer::new(Service::new(context.clone(), Containers::new(context.clone())))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .serve_with_incoming(service, incoming);
    log!("ready {} s after the kernel started", uptime());
    let edges = Arc::clone(&line);
    tokio::select! {
        result = context.reaper.run() => result,
        result = edges.watch() => result,
        result = line.run(sender) => result,
        result = server => result.map_err(io::Error::other),
    }
}

fn uptime() -> String {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}
