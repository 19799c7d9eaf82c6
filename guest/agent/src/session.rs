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
        Arc::new(Self { data, reset, state: Mutex::default() })
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
        Connection { line: self, number, absence: None, outgoing: Vec::with_capacity(WRITE_BYTES) }
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
