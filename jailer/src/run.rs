//! The order of things. Each step needs a right or a path that a later one gives up.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::path::PathBuf;

use crate::capabilities::{self, FOR_FILES, NONE};
use crate::cli::RunRequest;
use crate::descriptors::{self, Inherited};
use crate::error::{Context, Error, Result};
use crate::{device_policy, jail, limits, mounts, namespaces, syscalls};

/// Where a program without a slash in its name is looked for, and the whole of its environment.
const PROGRAM_FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];
const ENVIRONMENT: &CStr = c"PATH=/usr/local/bin:/usr/bin";

pub fn run(request: &RunRequest) -> Result<Infallible> {
    descriptors::close_inherited()?;
    reset_process();
    limits::forbid_core_dumps()?;
    namespaces::lead_session()?;
    namespaces::leave_keyring()?;
    namespaces::join_network(&request.netns)?;
    let mut inherited = Inherited::default();
    inherited.add(descriptors::TAP, request.tap.as_deref(), descriptors::open_tap)?;
    inherited.add(descriptors::MEMORY, request.memory.as_deref(), descriptors::open_memory)?;
    // After the devices: a cgroup used before may forbid opening them.
    for folder in &request.cgroups {
        namespaces::join_cgroup(folder)?;
    }
    namespaces::leave_host()?;
    mounts::detach_propagation()?;
    // From here on what is opened keeps no mount of the host busy.
    for (number, path) in (descriptors::FIRST_SOCKET..).zip(&request.listen) {
        inherited.add(number, Some(path.as_path()), descriptors::listen)?;
    }
    inherited.add(descriptors::CONSOLE, request.console.as_deref(), descriptors::open_log)?;
    let state_file = request.state_file.as_deref();
    inherited.add(descriptors::STATE_FILE, state_file, descriptors::open_state_file)?;
    let jail = jail::build(request)?;
    // Now that all devices are open or made, and while the cgroup's folder can still be reached.
    device_policy::apply(&request.cgroups, request.kvm)?;
    jail.enter()?;
    inherited.place()?;
    // What QEMU makes is for itself alone; 9p sets the modes the guest asks for.
    // SAFETY: a plain number.
    unsafe { libc::umask(0o077) };
    limits::apply(&request.limits)?;
    if request.small_pages {
        limits::forbid_huge_pages()?;
    }
    let keep = if request.file_capabilities { FOR_FILES } else { NONE };
    capabilities::drop_privileges(request.uid, request.gid, keep)?;
    syscalls::restrict()?;
    execute(&request.argv)
}

/// What a program inherits besides descriptors: ignored signals (the runtime of this one ignores
/// SIGPIPE), the signal mask. The file mode mask is off until the jail's own files are made.
fn reset_process() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is installed; signals that cannot be changed are refused and left alone.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: all zeroes is the empty set on Linux.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` outlives the call, the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    // SAFETY: a plain number.
    unsafe { libc::umask(0) };
}

fn execute(argv: &[CString]) -> Result<Infallible> {
    let Some(program) = argv.first() else {
        return Err(Error::Usage("no program given".into()));
    };
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [ENVIRONMENT.as_ptr(), std::ptr::null()];
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(program) {
        // SAFETY: both lists are terminated by a null pointer and their strings outlive the call.
        unsafe { libc::execve(candidate.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::ENOENT) {
            break;
        }
    }
    Err(last).at("execute", PathBuf::from(program.to_string_lossy().into_owned()))
}

fn candidates(program: &CStr) -> Vec<CString> {
    if program.to_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    PROGRAM_FOLDERS
        .iter()
        .filter_map(|folder| {
            let mut path = folder.as_bytes().to_vec();
            path.push(b'/');
            path.extend_from_slice(program.to_bytes());
            CString::new(path).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for_in_the_jail() {
        assert_eq!(
            candidates(c"qemu"),
            [c"/usr/local/bin/qemu".to_owned(), c"/usr/bin/qemu".to_owned()]
        );
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(candidates(c"/opt/qemu"), [c"/opt/qemu".to_owned()]);
    }
}
