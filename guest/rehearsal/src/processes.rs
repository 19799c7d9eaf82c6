//! Programs that start others, and signals.

use std::{
    env,
    io::{self, Read, Write},
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fd::OwnedFd,
    fs::Mode,
    process::{
        Resource, Signal, getegid, geteuid, getgid, getgroups, getpid, getppid, getrlimit, getuid, kill_process, umask,
    },
    system::uname,
    thread::{self, sched_getaffinity},
};

use crate::Outcome;

/// The argument of a child: echo standard input.
pub const CHILD: &str = "child";
/// A program of the image that does nothing.
const TINY: &str = "/bin/tiny";
/// A script of the image, which this program is the interpreter of, with `child` as its argument.
const SCRIPT: &str = "/bin/script";

pub fn start() -> Outcome {
    echo(Command::new("/proc/self/exe").arg(CHILD))?;
    echo(&mut Command::new(SCRIPT))?;
    let status = Command::new(TINY).status()?;
    if !status.success() {
        return Err(format!("{TINY} ended with {status}").into());
    }
    forked()
}

/// What shells and language runtimes ask before they begin.
pub fn ask() -> Outcome {
    env::current_dir()?;
    let _ids = (getppid(), getuid(), geteuid(), getgid(), getegid(), getgroups()?);
    let _limits = (getrlimit(Resource::Nofile), sched_getaffinity(None)?);
    let _names = (uname(), thread::name()?);
    umask(umask(Mode::empty()));
    Ok(())
}

pub fn child() -> ExitCode {
    let mut text = String::new();
    let echoed = io::stdin()
        .read_to_string(&mut text)
        .and_then(|_| io::stdout().write_all(text.as_bytes()));
    if echoed.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn echo(command: &mut Command) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(b"rehearsal")?;
    let output = child.wait_with_output()?;
    if output.status.success() && output.stdout == b"rehearsal" {
        return Ok(());
    }
    Err(format!("{command:?} ended with {}", output.status).into())
}

/// As shells start programs: a copy of the whole process, which then writes to its pages.
fn forked() -> Outcome {
    let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe()?;
    let mut pages = vec![0u8; 64 * 1024];
    // SAFETY: no other thread is alive, and the child calls nothing that allocates or locks.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(io::Error::last_os_error().into()),
        0 => {
            pages.fill(1);
            let done = rustix::io::write(&writer, &pages[..1]).is_ok();
            // SAFETY: ends the child without running what the parent has registered.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        _ => {}
    }
    drop(writer);
    pages.fill(2);
    let mut told = [0];
    rustix::io::read(&reader, &mut told)?;
    let mut status = 0;
    // SAFETY: status outlives the call.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        return Err(io::Error::last_os_error().into());
    }
    if status == 0 {
        Ok(())
    } else {
        Err("the copy has failed".into())
    }
}

static SEEN: AtomicBool = AtomicBool::new(false);

extern "C" fn seen(_signal: libc::c_int) {
    SEEN.store(true, Ordering::SeqCst);
}

pub fn signal() -> Outcome {
    let handler: extern "C" fn(libc::c_int) = seen;
    // SAFETY: the handler does nothing but store a flag.
    if unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error().into());
    }
    kill_process(getpid(), Signal::USR1)?;
    if SEEN.load(Ordering::SeqCst) {
        Ok(())
    } else {
        Err("no signal came".into())
    }
}
