use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::{Context, Error, Result};

/// By descriptor, as nobody need not be able to reach the folder the program is in.
const PROGRAM: &str = "/proc/self/fd/3";
pub const IMAGE: &str = "image.erofs";

/// What an unprivileged process may ask for: fewer switches between the two.
const PIPE_BYTES: libc::c_int = 1 << 20;
const BUFFER_BYTES: usize = 64 * 1024;

/// mkfs.erofs at work on one layer.
#[derive(Debug)]
pub struct Converter {
    child: Child,
    archive: BufWriter<ChildStdin>,
}

impl Converter {
    /// `first`: makes the image; else the layer is added to it.
    pub fn start(first: bool) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.args(["--quiet", "--tar=f", "--aufs", "--ovlfs-strip=1"]);
        // Data goes to its place as it comes. Else it is written to a temporary file first, and copied.
        command.args(["--sort=none", "-Enoinline_data"]);
        if !first {
            command.arg("--incremental=data");
        }
        command.arg(IMAGE).stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: the closure calls prctl and nothing else, which is safe between fork and exec.
        unsafe {
            command.pre_exec(die_with_parent);
        }
        let mut child = command.spawn().during("start mkfs.erofs")?;
        let Some(stdin) = child.stdin.take() else {
            return Err(Error::Misuse("mkfs.erofs has no standard input"));
        };
        widen(&stdin);
        Ok(Self {
            child,
            archive: BufWriter::with_capacity(BUFFER_BYTES, stdin),
        })
    }

    pub fn archive(&mut self) -> &mut impl Write {
        &mut self.archive
    }

    /// `written` is how writing the archive went. When mkfs.erofs has failed, that is why writing did.
    pub fn finish(mut self, written: Result<()>) -> Result<()> {
        let written = written.and_then(|()| self.archive.flush().during(crate::member::WRITE));
        let broken = matches!(&written, Err(Error::Step { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe);
        if written.is_err() && !broken {
            // It must not see the end of an archive that is cut off: it may spin on it.
            self.child.kill().during("end mkfs.erofs")?;
        }
        // What did not reach a broken pipe is of no use.
        let (stdin, _) = self.archive.into_parts();
        drop(stdin);
        let status = self.child.wait().during("wait for mkfs.erofs")?;
        match written {
            Err(error) if status.success() || !broken => Err(error),
            _ if !status.success() => Err(Error::Converter(status)),
            _ => Ok(()),
        }
    }
}

/// Without its parent there is no end of the archive, and it may spin.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A pipe that stays as it is serves as well, but slower.
fn widen(pipe: &ChildStdin) {
    // SAFETY: the descriptor is open, the rest are plain numbers.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
}
