//! Pipes and terminals between the agent and a process.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{output::MAX_RECORD_BYTES, sys, user_namespace::Owner};

/// A descriptor that is read or written whenever the kernel is ready.
pub type Stream = AsyncFd<OwnedFd>;

pub fn stream(fd: OwnedFd) -> io::Result<Stream> {
    sys::set_nonblocking(&fd)?;
    // SAFETY: the descriptor is owned, so it stays open and the same for as long as it is watched.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The agent's ends.
#[derive(Debug)]
pub struct AgentEnds {
    pub stdin: Option<Stream>,
    pub stdout: Stream,
    pub stderr: Stream,
}

/// The process's ends; to be closed once it has been made, or no end of file will ever be seen.
pub type ProcessEnds = [OwnedFd; 3];

/// Three pipes, or /dev/null for an input that is not wanted. They belong to the user that the process
/// runs as, who may then open /dev/stdout and the like by name.
pub fn pipes(with_stdin: bool, owner: Owner) -> io::Result<(AgentEnds, ProcessEnds)> {
    let owned_pipe = || {
        let (read, write) = sys::pipe()?;
        sys::change_owner(&write, owner.uid, owner.gid)?;
        Ok::<_, io::Error>((read, write))
    };
    let (input, stdin) = if with_stdin {
        let (read, write) = owned_pipe()?;
        (read, Some(stream(write)?))
    } else {
        (OpenOptions::new().read(true).open("/dev/null")?.into(), None)
    };
    let (stdout, output) = owned_pipe()?;
    let (stderr, errors) = owned_pipe()?;
    let ends = AgentEnds {
        stdin,
        stdout: stream(stdout)?,
        stderr: stream(stderr)?,
    };
    Ok((ends, [input, output, errors]))
}

thread_local! {
    /// One for all pumps, which use it between two awaits only.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Waits until there is something to read and hands it, at most `limit()` bytes, to `take`. False: the
/// end. `limit` is asked anew after each wait; 0 means not now, and true is returned.
pub async fn read_some(stream: &Stream, limit: impl Fn() -> usize, mut take: impl FnMut(&[u8])) -> bool {
    loop {
        let Ok(mut ready) = stream.readable().await else {
            return false;
        };
        let outcome = ready.try_io(|stream| {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(MAX_RECORD_BYTES, 0);
                let limit = limit().min(buffer.len());
                if limit == 0 {
                    return Ok(None);
                }
                let count = sys::read(stream.as_fd(), &mut buffer[..limit])?;
                take(&buffer[..count]);
                Ok(Some(count))
            })
        });
        match outcome {
            Ok(Ok(Some(0))) => return false,
            Ok(Ok(_)) => return true,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal reports its end as EIO. Other errors are as final.
            Ok(Err(_)) => return false,
            Err(_would_block) => {}
        }
    }
}

/// Writes everything; an error means that nobody reads any more.
pub async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = stream
            .async_io(Interest::WRITABLE, |fd| sys::write(fd.as_fd(), bytes))
            .await;
        match written {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    // Test data is made to fit.
    #![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_then_the_end() {
        let (read, write) = sys::pipe().unwrap();
        let (read, write) = (stream(read).unwrap(), stream(write).unwrap());
        let data: Vec<u8> = (0..200_000u32).map(|it| it as u8).collect();
        let expected = data.clone();
        let writer = tokio::spawn(async move { write_all(&write, &data).await });
        let mut found = Vec::new();
        while read_some(&read, || 1000, |part| found.extend_from_slice(part)).await {}
        writer.await.unwrap().unwrap();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_an_error() {
        let (read, write) = sys::pipe().unwrap();
        drop(read);
        let write = stream(write).unwrap();
        assert_eq!(
            write_all(&write, b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
