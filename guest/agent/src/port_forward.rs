//! Connections from the host with whatever listens on localhost in the pod, whose network namespace is
//! the guest's own, or that of its user namespace.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use rustix::net::sockopt::set_socket_linger;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    container::{plain, user_namespace::UserNamespace},
    proto::{PortForwardRequest, PortForwardResponse},
    service::ResponseStream,
};

const MAX_DATA_BYTES: usize = 32 << 10;
/// Responses between the socket and the transport.
const QUEUED_RESPONSES: usize = 4;

type Responses = mpsc::Sender<Result<PortForwardResponse, Status>>;

/// Connects, and leaves the rest to a task. Dropping the answer resets the connection.
pub async fn start(
    mut requests: Streaming<PortForwardRequest>,
    user_namespace: Option<Arc<UserNamespace>>,
) -> Result<ResponseStream<PortForwardResponse>, Status> {
    let first = requests
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("the first message is missing"))?;
    let port = u16::try_from(first.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Status::invalid_argument(format!("port: {} is not one", first.port)))?;
    let socket = connect(port, user_namespace.as_deref()).await?;
    let (sender, receiver) = mpsc::channel(QUEUED_RESPONSES);
    tokio::spawn(forward(socket, first, requests, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn connect(port: u16, user_namespace: Option<&UserNamespace>) -> Result<TcpStream, Status> {
    let mut failures = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let connected = match socket(address, user_namespace) {
            Ok(socket) => socket.connect((address, port).into()).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => failures.push(format!("{address}: {}", plain(&error))),
        }
    }
    let failures = failures.join(", ");
    Err(Status::failed_precondition(format!(
        "cannot connect to port {port} on localhost in the pod: {failures}"
    )))
}

/// It stays in the network namespace that it is made in.
fn socket(address: IpAddr, user_namespace: Option<&UserNamespace>) -> io::Result<TcpSocket> {
    let make = || match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    };
    user_namespace.map_or_else(make, |it| it.within(make)?)
}

/// Who ends a connection before both directions have ended.
enum Broken {
    Pod,
    Client,
}

async fn forward(
    mut socket: TcpStream,
    first: PortForwardRequest,
    requests: Streaming<PortForwardRequest>,
    responses: Responses,
) {
    // A connection may be an interactive one, whose bytes should not wait for each other.
    let _ = socket.set_nodelay(true);
    let (from_pod, to_pod) = socket.split();
    let reset = AtomicBool::new(false);
    let both = async {
        let up = send_to_pod(Incoming(requests), first, to_pod, &reset);
        let down = receive_from_pod(from_pod, &responses, &reset);
        tokio::try_join!(up, down).map(drop)
    };
    let outcome = tokio::select! {
        outcome = both => outcome,
        () = responses.closed() => Err(Broken::Client),
    };
    if let Err(broken) = outcome {
        // Closed the ordinary way, it would look like an end that was meant.
        let _ = set_socket_linger(&socket, Some(Duration::ZERO));
        drop(socket);
        if matches!(broken, Broken::Pod) {
            let reset = PortForwardResponse {
                reset: true,
                ..PortForwardResponse::default()
            };
            let _ = responses.send(Ok(reset)).await;
        }
    }
}

/// What the client sends, as a trait so that tests need no transport.
trait Messages {
    fn next(&mut self) -> impl Future<Output = Result<Option<PortForwardRequest>, Status>> + Send;
}

struct Incoming(Streaming<PortForwardRequest>);

impl Messages for Incoming {
    async fn next(&mut self) -> Result<Option<PortForwardRequest>, Status> {
        self.0.message().await
    }
}

async fn send_to_pod(
    mut requests: impl Messages,
    first: PortForwardRequest,
    mut socket: impl AsyncWrite + Unpin,
    was_reset: &AtomicBool,
) -> Result<(), Broken> {
    let mut request = Some(first);
    while let Some(PortForwardRequest { data, eof, .. }) = request {
        // A pod's end that reads no more may still have something to say. The kernel tells of a reset
        // only once: who reads then finds an end that looks as if it were meant.
        if let Err(error) = socket.write_all(&data).await {
            was_reset.store(error.kind() == io::ErrorKind::ConnectionReset, Ordering::Relaxed);
            return Ok(());
        }
        if eof {
            break;
        }
        request = requests.next().await.map_err(|_| Broken::Client)?;
    }
    let _ = socket.shutdown().await;
    Ok(())
}

async fn receive_from_pod(
    mut socket: impl AsyncRead + Unpin,
    responses: &Responses,
    was_reset: &AtomicBool,
) -> Result<(), Broken> {
    let send = |response| async { responses.send(Ok(response)).await.map_err(|_| Broken::Client) };
    send(PortForwardResponse {
        connected: true,
        ..PortForwardResponse::default()
    })
    .await?;
    let mut buffer = BytesMut::new();
    loop {
        // First the room, then the data: what waits, waits in the pod.
        let permit = responses.reserve().await.map_err(|_| Broken::Client)?;
        buffer.reserve(MAX_DATA_BYTES);
        let mut limited = (&mut socket).take(MAX_DATA_BYTES as u64);
        let count = limited.read_buf(&mut buffer).await.map_err(|_| Broken::Pod)?;
        if count == 0 && was_reset.load(Ordering::Relaxed) {
            return Err(Broken::Pod);
        }
        permit.send(Ok(PortForwardResponse {
            data: buffer.split().freeze(),
            eof: count == 0,
            ..PortForwardResponse::default()
        }));
        if count == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use tokio::io::duplex;

    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// What the client says, and then: its end, or that it was cut off.
    struct Script(VecDeque<PortForwardRequest>, bool);

    impl Messages for Script {
        async fn next(&mut self) -> Result<Option<PortForwardRequest>, Status> {
            match self.0.pop_front() {
                Some(request) => Ok(Some(request)),
                None if self.1 => Ok(None),
                None => Err(Status::cancelled("gone")),
            }
        }
    }

    fn says(data: &'static [u8], eof: bool) -> PortForwardRequest {
        PortForwardRequest {
            data: Bytes::from_static(data),
            eof,
            ..PortForwardRequest::default()
        }
    }

    #[tokio::test]
    async fn the_clients_end_of_data_is_the_pods_end_of_file_whichever_way_it_is_told() {
        for (script, eof) in [(vec![says(b"b", false)], false), (vec![says(b"b", true)], true)] {
            let (pod, socket) = duplex(16);
            let (mut from_client, _answers) = tokio::io::split(pod);
            let (_, to_pod) = tokio::io::split(socket);
            let script = Script(script.into(), !eof);
            assert!(send_to_pod(script, says(b"a", false), to_pod, &NEVER).await.is_ok());
            let mut received = Vec::new();
            from_client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"ab");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_cut_off_is_no_end_of_file() {
        let (_pod, socket) = duplex(16);
        let outcome = send_to_pod(Script(VecDeque::new(), false), says(b"a", false), socket, &NEVER).await;
        assert!(matches!(outcome, Err(Broken::Client)));
    }

    /// Whichever direction the kernel tells of it.
    #[tokio::test]
    async fn a_reset_that_writing_meets_is_no_end_of_file() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        let reset = AtomicBool::new(false);
        let (from_pod, to_pod) = near.split();
        let script = Script([says(b"b", false), says(b"c", false)].into(), true);
        assert!(send_to_pod(script, says(b"a", false), to_pod, &reset).await.is_ok());
        let (sender, _receiver) = mpsc::channel(QUEUED_RESPONSES);
        let outcome = receive_from_pod(from_pod, &sender, &reset).await;
        assert!(matches!(outcome, Err(Broken::Pod)));
    }

    #[tokio::test]
    async fn what_the_pod_sends_comes_in_order_up_to_its_end() {
        let data: Vec<u8> = (0..100_000u32).map(|it| it.to_le_bytes()[0]).collect();
        let (mut pod, socket) = duplex(1 << 20);
        pod.write_all(&data).await.unwrap();
        drop(pod);
        let (sender, mut receiver) = mpsc::channel(QUEUED_RESPONSES);
        let sending = tokio::spawn(async move { receive_from_pod(socket, &sender, &NEVER).await.is_ok() });
        assert!(receiver.recv().await.unwrap().unwrap().connected);
        let mut received = Vec::new();
        loop {
            let response = receiver.recv().await.unwrap().unwrap();
            assert!(response.data.len() <= MAX_DATA_BYTES);
            received.extend_from_slice(&response.data);
            if response.eof {
                break;
            }
        }
        assert_eq!(received, data);
        assert!(sending.await.unwrap());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_leaves_the_data_in_the_pod() {
        let (mut pod, socket) = duplex(1 << 20);
        pod.write_all(&vec![0; 1 << 20]).await.unwrap();
        let (sender, receiver) = mpsc::channel(QUEUED_RESPONSES);
        let sending = tokio::spawn(async move { receive_from_pod(socket, &sender, &NEVER).await });
        tokio::task::yield_now().await;
        assert_eq!(receiver.len(), QUEUED_RESPONSES);
        drop(receiver);
        assert!(matches!(sending.await.unwrap(), Err(Broken::Client)));
    }
}
