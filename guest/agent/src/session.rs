//! Turns the two ports into a sequence of connections, one at a time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Duration, Sleep, sleep},
};
use tonic::transport::server::Connected;

use crate::{
    log,
    port::{Channel, Port},
    reset::{Frames, Nonce, Search, Tail},
};

/// When a host leaves and the next one comes while the VM is paused, the news of both can reach us
/// after the first bytes of the new session. Only a host that stays away has left.
const ABSENCE: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 16 * 1024;
/// The largest write that the port's driver takes at once.
const WRITE_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
struct State {
    /// Which connection is alive; 0 while none is.
    live: u64,
    last: u64,
    /// Read behind the nonce, not yet given to the connection.
    pending: Vec<u8>,
    tail: Tail,
}

/// The data port and its reset line.
#[derive(Debug)]
pub struct Line<C> {
    data: C,
    reset: C,
    state: Mutex<State>,
}

impl Line<Port> {
    /// Passes edges of both ports on; has to run beside everything else.
    pub async fn watch(&self) -> io::Result<()> {
        tokio::try_join!(self.data.watch(), self.reset.watch()).map(drop)
    }
}

impl<C: Channel> Line<C> {
    pub fn new(data: C, reset: C) -> Arc<Self> {
        Arc::new(Self {
            data,
            reset,
            state: Mutex::default(),
        })
    }

    /// Hands out a connection for each frame on the reset port. A newer frame ends whatever an
    /// older one has begun.
    pub async fn run(self: Arc<Self>, connections: mpsc::Sender<Connection<C>>) -> io::Result<()> {
        let mut frames = Frames::default();
        let mut nonce = self.next_frame(&mut frames).await?;
        loop {
            self.end(None);
            tokio::select! {
                biased;
                newer = self.next_frame(&mut frames) => nonce = newer?,
                opened = self.handshake(nonce) => {
                    match opened {
                        Ok(rest) => {
                            let connection = self.clone().begin(rest);
                            if connections.send(connection).await.is_err() {
                                return Ok(());
                            }
                        }
                        Err(error) => log!("handshake: {error}"),
                    }
                    nonce = self.next_frame(&mut frames).await?;
                }
            }
        }
    }

    async fn next_frame(&self, frames: &mut Frames) -> io::Result<Nonce> {
        poll_fn(|context| {
            let mut buffer = [0; 256];
            loop {
                match ready!(self.reset.poll_read(context, &mut buffer))? {
                    // No host: poll_read has seen to it that we are woken when one comes.
                    0 => return Poll::Pending,
                    count => {
                        if let Some(nonce) = frames.push(&buffer[..count]) {
                            return Poll::Ready(Ok(nonce));
                        }
                    }
                }
            }
        })
        .await
    }

    /// Discards data up to the nonce, answers with it, and returns what followed.
    async fn handshake(&self, nonce: Nonce) -> io::Result<Vec<u8>> {
        let mut search = Search::new(nonce, &self.state().tail);
        let mut found = search.push(&[]);
        let mut buffer = vec![0; READ_BYTES];
        let rest = poll_fn(|context| {
            loop {
                if let Some(rest) = found.take() {
                    return Poll::Ready(Ok::<_, io::Error>(rest));
                }
                match ready!(self.data.poll_read(context, &mut buffer))? {
                    0 => return Poll::Pending,
                    count => {
                        self.state().tail.push(&buffer[..count]);
                        found = search.push(&buffer[..count]);
                    }
                }
            }
        })
        .await?;
        let mut sent = 0;
        poll_fn(|context| {
            while sent < nonce.len() {
                sent += ready!(self.data.poll_write(context, &nonce[sent..]))?;
            }
            Poll::Ready(Ok::<_, io::Error>(()))
        })
        .await?;
        Ok(rest)
    }

    fn begin(self: Arc<Self>, rest: Vec<u8>) -> Connection<C> {
        let mut state = self.state();
        state.last += 1;
        state.live = state.last;
        state.pending = rest;
        let number = state.live;
        drop(state);
        Connection {
            line: self,
            number,
            absence: None,
            outgoing: Vec::with_capacity(WRITE_BYTES),
        }
    }

    /// Ends the connection of that number, or any.
    fn end(&self, number: Option<u64>) {
        let mut state = self.state();
        if number.is_none_or(|it| it == state.live) {
            state.live = 0;
            state.pending = Vec::new();
            drop(state);
            self.data.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's byte stream: at end of file as soon as a newer session wants to begin.
#[derive(Debug)]
pub struct Connection<C: Channel> {
    line: Arc<Line<C>>,
    number: u64,
    /// Runs while no host is connected.
    absence: Option<Pin<Box<Sleep>>>,
    /// Small writes are gathered: each one costs an exit to the hypervisor.
    outgoing: Vec<u8>,
}

impl<C: Channel> Connection<C> {
    fn is_live(&self) -> bool {
        self.line.state().live == self.number
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            if sent == self.outgoing.len() {
                break Poll::Ready(Ok(()));
            }
            if !self.is_live() {
                break Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            match self.line.data.poll_write(context, &self.outgoing[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => {
                    self.line.end(Some(self.number));
                    break Poll::Ready(Err(error));
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        self.outgoing.drain(..sent);
        result
    }
}

impl<C: Channel> Drop for Connection<C> {
    fn drop(&mut self) {
        self.line.end(Some(self.number));
    }
}

impl<C: Channel> Connected for Connection<C> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<C: Channel> AsyncRead for Connection<C> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.line.state();
        if state.live != self.number {
            return Poll::Ready(Ok(()));
        }
        if !state.pending.is_empty() {
            let count = state.pending.len().min(out.remaining());
            out.put_slice(&state.pending[..count]);
            state.pending.drain(..count);
            return Poll::Ready(Ok(()));
        }
        drop(state);
        let space = out.initialize_unfilled();
        let result = match self.line.data.poll_read(context, space) {
            Poll::Pending => {
                self.absence = None;
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => {
                let absence = self.absence.get_or_insert_with(|| Box::pin(sleep(ABSENCE)));
                ready!(absence.as_mut().poll(context));
                Ok(())
            }
            Poll::Ready(Ok(count)) => {
                self.line.state().tail.push(&space[..count]);
                self.absence = None;
                out.advance(count);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => Err(error),
        };
        self.line.end(Some(self.number));
        Poll::Ready(result)
    }
}

impl<C: Channel> AsyncWrite for Connection<C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.len() >= WRITE_BYTES {
            ready!(self.poll_drain(context))?;
        }
        let count = bytes.len().min(WRITE_BYTES - self.outgoing.len());
        self.outgoing.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, task::Waker};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The host's end of a port: what it has written comes in chunks as they were put in.
    #[derive(Default)]
    struct Wire {
        chunks: VecDeque<Vec<u8>>,
        written: Vec<u8>,
        absent: bool,
        /// Bytes that the port takes at once; 0 blocks.
        appetite: usize,
        wakers: Vec<Waker>,
    }

    #[derive(Clone)]
    struct FakePort(Arc<Mutex<Wire>>);

    impl FakePort {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(Wire {
                appetite: 7,
                ..Wire::default()
            })))
        }

        fn change(&self, change: impl FnOnce(&mut Wire)) {
            change(&mut self.0.lock().unwrap());
            self.wake();
        }

        fn send(&self, chunk: &[u8]) {
            self.change(|wire| wire.chunks.push_back(chunk.to_vec()));
        }

        fn written(&self) -> Vec<u8> {
            self.0.lock().unwrap().written.clone()
        }
    }

    impl Channel for FakePort {
        fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            let mut wire = self.0.lock().unwrap();
            wire.wakers.push(context.waker().clone());
            let Some(mut chunk) = wire.chunks.pop_front() else {
                return if wire.absent { Poll::Ready(Ok(0)) } else { Poll::Pending };
            };
            let count = chunk.len().min(buffer.len());
            buffer[..count].copy_from_slice(&chunk[..count]);
            if count < chunk.len() {
                wire.chunks.push_front(chunk.split_off(count));
            }
            Poll::Ready(Ok(count))
        }

        fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut wire = self.0.lock().unwrap();
            wire.wakers.push(context.waker().clone());
            if wire.absent || wire.appetite == 0 {
                return Poll::Pending;
            }
            let count = bytes.len().min(wire.appetite);
            wire.written.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn wake(&self) {
            let wakers = std::mem::take(&mut self.0.lock().unwrap().wakers);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Small and the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % sides
        }

        fn bytes(&mut self, count: usize) -> Vec<u8> {
            (0..count).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
        }

        fn nonce(&mut self) -> Nonce {
            self.bytes(16).try_into().unwrap()
        }
    }

    struct Rig {
        data: FakePort,
        reset: FakePort,
        connections: mpsc::Receiver<Connection<FakePort>>,
    }

    fn rig() -> Rig {
        let (data, reset) = (FakePort::new(), FakePort::new());
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(Line::new(data.clone(), reset.clone()).run(sender));
        Rig {
            data,
            reset,
            connections,
        }
    }

    impl Rig {
        fn frame(&self, nonce: Nonce) {
            self.reset.send(&[b"KRST".as_slice(), &nonce].concat());
        }

        async fn open(&mut self, nonce: Nonce) -> Connection<FakePort> {
            self.frame(nonce);
            self.data.send(&nonce);
            self.connections.recv().await.unwrap()
        }
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn in_order<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn serves_from_the_byte_after_the_nonce() {
        in_order(async {
            let mut rig = rig();
            rig.frame([7; 16]);
            rig.data.send(b"left by another session");
            rig.data.send(&[[7; 16].as_slice(), b"hello"].concat());
            let mut connection = rig.connections.recv().await.unwrap();
            let mut received = [0; 5];
            connection.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"hello");
            connection.write_all(b"world").await.unwrap();
            connection.flush().await.unwrap();
            assert_eq!(rig.data.written(), [[7; 16].as_slice(), b"world"].concat());
        });
    }

    #[test]
    fn a_newer_frame_ends_the_session_and_its_blocked_writes() {
        in_order(async {
            let mut rig = rig();
            let mut old = rig.open([1; 16]).await;
            rig.data.change(|wire| wire.appetite = 0);
            let blocked = tokio::spawn(async move {
                let result = old.write_all(&vec![0; 100_000]).await;
                let read = old.read(&mut [0; 1]).await;
                (result.map_err(|it| it.kind()), read.unwrap())
            });
            settle().await;
            rig.frame([2; 16]);
            rig.data.send(&[2; 16]);
            assert_eq!(blocked.await.unwrap(), (Err(io::ErrorKind::BrokenPipe), 0));
            rig.data.change(|wire| wire.appetite = 100);
            rig.connections.recv().await.unwrap();
            assert!(rig.data.written().ends_with(&[2; 16]));
        });
    }

    #[test]
    fn an_absent_host_ends_the_session_only_when_it_stays_away() {
        in_order(async {
            let mut rig = rig();
            let mut connection = rig.open([1; 16]).await;
            rig.data.change(|wire| wire.absent = true);
            settle().await;
            rig.data.change(|wire| wire.absent = false);
            rig.data.send(b"back");
            let mut received = [0; 4];
            connection.read_exact(&mut received).await.unwrap();
            rig.data.change(|wire| wire.absent = true);
            assert_eq!(connection.read(&mut received).await.unwrap(), 0);
            assert!(connection.write_all(b"x").await.is_ok() && connection.flush().await.is_err());
        });
    }

    #[test]
    fn an_old_session_that_is_dropped_late_does_not_end_the_new_one() {
        in_order(async {
            let mut rig = rig();
            let old = rig.open([1; 16]).await;
            let mut new = rig.open([2; 16]).await;
            drop(old);
            rig.data.send(b"still there");
            let mut received = [0; 11];
            new.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"still there");
        });
    }

    /// Hosts that die anywhere, in chunks of any size: the last one is always served, and gets
    /// exactly the bytes that it has sent.
    #[test]
    fn survives_whatever_was_cut_off() {
        for seed in 0..300 {
            in_order(async {
                let mut dice = Dice(seed);
                let mut rig = rig();
                for _ in 0..dice.roll(6) {
                    let nonce = dice.nonce();
                    let frame = [b"KRST".as_slice(), &nonce].concat();
                    let cut = dice.roll(frame.len() + 1);
                    rig.reset.send(&frame[..cut]);
                    let data = [nonce.as_slice(), &dice.bytes(100)].concat();
                    let cut = dice.roll(data.len() + 1);
                    rig.data.send(&data[..cut]);
                    if dice.roll(2) == 0 {
                        settle().await;
                    }
                    if dice.roll(3) == 0 {
                        rig.data.change(|wire| wire.absent = true);
                        settle().await;
                        rig.data.change(|wire| wire.absent = false);
                    }
                }
                settle().await;
                while let Ok(connection) = rig.connections.try_recv() {
                    drop(connection);
                }
                let nonce = dice.nonce();
                let body = dice.bytes(3_000);
                let frame = [b"KRST".as_slice(), &nonce].concat();
                let stream = [dice.bytes(500).as_slice(), &nonce, &body].concat();
                // Either port may be the first to be heard, though a host sends the frame first.
                let mut sends: VecDeque<(bool, Vec<u8>)> = VecDeque::new();
                for (is_data, bytes) in [(false, frame), (true, stream)] {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (chunk, next) = rest.split_at(1 + dice.roll(rest.len().min(700)));
                        sends.push_back((is_data, chunk.to_vec()));
                        rest = next;
                    }
                }
                for (is_data, chunk) in sends {
                    if is_data {
                        rig.data.send(&chunk);
                    } else {
                        rig.reset.send(&chunk);
                    }
                    if dice.roll(3) == 0 {
                        settle().await;
                    }
                }
                let mut received = vec![0; body.len()];
                // Sessions of the hosts that died may still be waiting to be taken, at their end.
                while rig
                    .connections
                    .recv()
                    .await
                    .unwrap()
                    .read_exact(&mut received)
                    .await
                    .is_err()
                {}
                assert_eq!(received, body, "seed {seed}");
                assert!(rig.data.written().ends_with(&nonce), "seed {seed}");
            });
        }
    }
}
