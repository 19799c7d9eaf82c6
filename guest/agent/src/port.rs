//! One virtio-serial port without blocking.
//!
//! A port polls IN and HUP for as long as no host is connected, and tokio never clears a closed
//! side, so an `AsyncFd` over the port itself would spin. The port is therefore in an inner,
//! edge-triggered epoll set, and tokio watches only that set's descriptor, which never reports HUP.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    fs::{Mode, OFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Bytes to and from a host that comes and goes.
pub trait Channel: Send + Sync + 'static {
    /// 0 bytes mean that no host is connected. Whatever it returns, the task is woken when that may
    /// have changed.
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Waits while no host is connected: whoever reads learns of it.
    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Makes whoever waits in a poll look again.
    fn wake(&self);
}

#[derive(Debug, Default)]
struct Wakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

#[derive(Debug)]
pub struct Port {
    device: OwnedFd,
    edges: AsyncFd<OwnedFd>,
    wakers: Mutex<Wakers>,
}

impl Port {
    /// Waits until the port of that name is there. Needs a tokio runtime.
    pub fn open(name: &str, patience: Duration) -> io::Result<Self> {
        let device = open_device(name, patience)?;
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&edges, &device, epoll::EventData::new_u64(0), flags)?;
        // SAFETY: an OwnedFd gives the same open descriptor for as long as it lives.
        let edges = unsafe { AsyncFd::register_with_interest(edges, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self {
            device,
            edges,
            wakers: Mutex::default(),
        })
    }

    /// Passes edges on to whoever waits; has to run beside every use of the port.
    pub async fn watch(&self) -> io::Result<()> {
        loop {
            let mut ready = self.edges.readable().await?;
            let mut event = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }];
            epoll::wait(
                self.edges.get_ref(),
                event.as_mut_slice(),
                Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
            )?;
            ready.clear_ready();
            self.wake();
        }
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel for Port {
    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // Registered before the attempt: an edge that comes between the two is not lost.
        store(&mut self.wakers().read, context);
        match rustix::io::read(&self.device, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            result => Poll::Ready(result.map_err(Into::into)),
        }
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        store(&mut self.wakers().write, context);
        match rustix::io::write(&self.device, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            result => Poll::Ready(result.map_err(Into::into)),
        }
    }

    fn wake(&self) {
        let (read, write) = {
            let mut wakers = self.wakers();
            (wakers.read.take(), wakers.write.take())
        };
        for waker in [read, write].into_iter().flatten() {
            waker.wake();
        }
    }
}

fn store(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

fn open_device(name: &str, patience: Duration) -> io::Result<OwnedFd> {
    let deadline = Instant::now() + patience;
    loop {
        // The name comes by a later message of the device than the port itself.
        if let Some(file) = find_device(name)? {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            return Ok(rustix::fs::open(Path::new("/dev").join(file), flags, Mode::empty())?);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no virtio-serial port is named {name}"),
            ));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn find_device(name: &str) -> io::Result<Option<std::ffi::OsString>> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|it| it.trim_end() == name) {
            return Ok(Some(entry.file_name()));
        }
    }
    Ok(None)
}
