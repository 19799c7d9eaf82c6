//! The child, from clone3 to execve. Only raw system calls: see `raw`.
//!
//! The order matters: descriptors of the guest are closed and the root is left before anything of
//! the container's own (its working directory, its terminal) is touched; privileges go last, and the
//! filter very last, since it may forbid any of this.

// SAFETY, for the whole file: each pointer handed to the kernel is to a C string, a structure or an
// array that lives in the `Launch` (which the caller keeps alive) or on this function's stack until
// the call returns, and each size is that of what is pointed to. Wrapping every line in a block of
// its own with the same sentence would hide the calls.
#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks
)]
// The kernel's words are neither signed nor sized as Rust's types are.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::borrow_as_ptr,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::fn_to_numeric_cast
)]

use std::{
    ffi::CStr,
    os::fd::{AsRawFd, RawFd},
};

use super::{
    raw::raw,
    report::{KIND_FAILED, KIND_READY, KIND_TERMINAL, Report, SIZE, stage},
    spec::{Action, Entry, Finish, Launch, MountPoint, Node, Program, RootPlan, Streams, Target, TerminalSize},
};
use crate::container::{
    sys::{MountAttributes, OpenHow, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS},
    user_namespace::UserNamespace,
};

const EXIT_CANNOT_EXECUTE: i32 = 128;
const CWD: isize = libc::AT_FDCWD as isize;
const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_EMPTY_PATHS: u32 = 0x04 | 0x40;
const DEVPTS_MAGIC: i64 = 0x1cd1;
const NULL_DEVICE: u64 = libc::makedev(1, 3);
const LAST_CAPABILITY: u32 = 63;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// `SECCOMP_SET_MODE_FILTER`.
const SET_MODE_FILTER: i32 = 1;
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// `SECBIT_NO_SETUID_FIXUP`.
const NO_SETUID_FIXUP: u64 = 1 << 2;

type Errno = i32;
type Outcome<T> = Result<T, Errno>;

fn check(result: isize) -> Outcome<isize> {
    if result < 0 { Err(-result as Errno) } else { Ok(result) }
}

#[derive(Clone, Copy)]
struct Reporter {
    socket: RawFd,
}

impl Reporter {
    fn send(self, kind: u32, stage: u32, errno: Errno) {
        let bytes = Report {
            kind,
            stage,
            errno: errno as u32,
        }
        .as_bytes();
        unsafe { raw!(SYS_write, self.socket, bytes.as_ptr(), SIZE) };
    }

    fn give_up(self, stage: u32, errno: Errno) -> ! {
        self.send(KIND_FAILED, stage, errno);
        exit(EXIT_CANNOT_EXECUTE)
    }

    /// The value, or the end of this process.
    fn need<T>(self, stage: u32, outcome: Outcome<T>) -> T {
        match outcome {
            Ok(value) => value,
            Err(errno) => self.give_up(stage, errno),
        }
    }
}

fn exit(code: i32) -> ! {
    loop {
        unsafe { raw!(SYS_exit_group, code) };
    }
}

/// Runs in the child and never returns. `extern "C"`: a panic must not unwind into the agent's stack.
///
/// # Safety
/// The caller is the only thread of a process. Memory it may share with the agent, as long as the thread that has
/// made it waits.
pub unsafe extern "C" fn run(launch: &Launch, socket: RawFd) -> ! {
    let report = Reporter { socket };
    let none = 0u64;
    raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &none as *const u64, 0, 8);
    // The agent ignores it, as all programs in Rust do; what is ignored stays so beyond execve, and a
    // program whose reader is gone would write for ever.
    set_disposition(libc::SIGPIPE, libc::SIG_DFL);
    report.need(stage::SESSION, check(raw!(SYS_setsid)));
    if let Finish::Execute(program) = &launch.finish
        && let Some(score) = &program.oom_score
    {
        report.need(stage::OOM_SCORE, write_file(c"/proc/self/oom_score_adj", score));
    }
    let root = match &launch.entry {
        Entry::Join { pidfd, user_namespace } => {
            let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
            if *user_namespace {
                let all = namespaces | libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
                report.need(stage::JOIN, check(raw!(SYS_setns, *pidfd, all)));
                become_root(report);
            } else {
                report.need(stage::JOIN, check(raw!(SYS_setns, *pidfd, namespaces)));
            }
            report.need(stage::OPEN_ROOT, open_root())
        }
        Entry::Empty => empty_root(report),
        Entry::Root(plan) => change_root(report, plan),
    };
    match &launch.finish {
        Finish::Pause => pause(report),
        Finish::Execute(program) => {
            let terminal = match &program.streams {
                Streams::Terminal(size) => {
                    let terminal = report.need(stage::TERMINAL, open_terminal(report, root, size, program.uid));
                    if matches!(launch.entry, Entry::Root(_)) {
                        report.need(stage::CONSOLE, bind_console(root, terminal));
                    }
                    Some(terminal)
                }
                Streams::Files(_) => None,
            };
            // A missing working directory is made, so before the root becomes read-only.
            let directory = enter(root, &program.working_directory);
            report.need(stage::WORKING_DIRECTORY, directory);
            if let Entry::Root(plan) = &launch.entry
                && plan.readonly
            {
                report.need(stage::READONLY_ROOT, make_readonly(root, 0));
            }
            execute(report, program, terminal)
        }
    }
}

unsafe fn write_file(path: &CStr, bytes: &[u8]) -> Outcome<()> {
    let fd = check(raw!(SYS_openat, CWD, path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
    let written = check(raw!(SYS_write, fd, bytes.as_ptr(), bytes.len()));
    raw!(SYS_close, fd);
    written.map(drop)
}

unsafe fn open_root() -> Outcome<isize> {
    check(raw!(
        SYS_openat,
        CWD,
        c"/".as_ptr(),
        libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC
    ))
}

// ---------------------------------------------------------------- the root

unsafe fn empty_root(report: Reporter) -> isize {
    own_mounts(report);
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let data = c"size=4k,nr_inodes=2,mode=0555";
    let target = c"/run";
    let mounted = raw!(
        SYS_mount,
        c"none".as_ptr(),
        target.as_ptr(),
        c"tmpfs".as_ptr(),
        flags,
        data.as_ptr()
    );
    report.need(stage::EMPTY_ROOT, check(mounted));
    pivot(report, target)
}

unsafe fn change_root(report: Reporter, plan: &RootPlan) -> isize {
    if let Some(namespace) = &plan.user_namespace {
        join_pod(report, namespace);
    }
    report.need(stage::CGROUP_NAMESPACE, check(raw!(SYS_unshare, libc::CLONE_NEWCGROUP)));
    own_mounts(report);
    let root = pivot(report, &plan.root);
    raw!(SYS_umask, 0);
    let mut mask = Mask { directory: None };
    take_steps(report, root, plan, &mut mask, false);
    let root = match &plan.user_namespace {
        Some(namespace) => enter_user_namespace(report, namespace),
        None => root,
    };
    take_steps(report, root, plan, &mut mask, true);
    root
}

unsafe fn take_steps(report: Reporter, root: isize, plan: &RootPlan, mask: &mut Mask, inside: bool) {
    for (index, step) in plan.steps.iter().enumerate() {
        if step.action.is_inside() == inside {
            let outcome = carry_out(root, &step.action, mask);
            report.need(stage::ROOT_STEP + index as u32, outcome);
        }
    }
}

/// The user namespace itself is entered last, since the guest's root may mount what the pod's may not. But what is
/// made on the way (mount points, device nodes, file systems) is made for the pod's root.
unsafe fn join_pod(report: Reporter, namespace: &UserNamespace) {
    for other in namespace.others() {
        report.need(stage::JOIN_POD, check(raw!(SYS_setns, other.as_raw_fd(), 0)));
    }
    // Else the capabilities that have to do with files go with the user for files.
    let keep = raw!(SYS_prctl, libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0);
    report.need(stage::JOIN_POD, check(keep));
    let root = namespace.root();
    // Both return the id before and never fail for one that there is.
    raw!(SYS_setfsgid, root.gid);
    raw!(SYS_setfsuid, root.uid);
}

/// Ends as root of the pod with all capabilities there, in a mount namespace of the pod, where none of the
/// mounts can be taken away; its root.
unsafe fn enter_user_namespace(report: Reporter, namespace: &UserNamespace) -> isize {
    let user = namespace.user().as_raw_fd();
    report.need(stage::USER_NAMESPACE, check(raw!(SYS_setns, user, libc::CLONE_NEWUSER)));
    become_root(report);
    report.need(stage::USER_NAMESPACE, check(raw!(SYS_unshare, libc::CLONE_NEWNS)));
    report.need(stage::OPEN_ROOT, open_root())
}

/// The guest's root is nobody in the pod's user namespace.
unsafe fn become_root(report: Reporter) {
    report.need(stage::USER_NAMESPACE, check(raw!(SYS_setresgid, 0, 0, 0)));
    report.need(stage::USER_NAMESPACE, check(raw!(SYS_setresuid, 0, 0, 0)));
}

/// What is mounted from now on stays in this namespace.
unsafe fn own_mounts(report: Reporter) {
    let changed = raw!(SYS_mount, 0, c"/".as_ptr(), 0, libc::MS_REC | libc::MS_PRIVATE, 0);
    report.need(stage::PROPAGATION, check(changed));
}

/// The old root is gone when this returns, so no `..` leads to it.
unsafe fn pivot(report: Reporter, new_root: &CStr) -> isize {
    report.need(stage::CHANGE_ROOT, check(raw!(SYS_chdir, new_root.as_ptr())));
    report.need(
        stage::CHANGE_ROOT,
        check(raw!(SYS_pivot_root, c".".as_ptr(), c".".as_ptr())),
    );
    report.need(
        stage::LEAVE_ROOT,
        check(raw!(SYS_umount2, c".".as_ptr(), libc::MNT_DETACH)),
    );
    report.need(stage::LEAVE_ROOT, check(raw!(SYS_chdir, c"/".as_ptr())));
    report.need(stage::OPEN_ROOT, open_root())
}

unsafe fn open_beneath(root: isize, path: &CStr, flags: i32, plain: bool) -> Outcome<isize> {
    let links = if plain {
        RESOLVE_NO_SYMLINKS
    } else {
        RESOLVE_NO_MAGICLINKS
    };
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | links,
    };
    check(raw!(
        SYS_openat2,
        root,
        path.as_ptr(),
        &how as *const OpenHow,
        size_of::<OpenHow>()
    ))
}

/// Opens a path of the container, making what is missing of it.
unsafe fn open_target(root: isize, target: &Target, point: MountPoint, plain: bool) -> Outcome<isize> {
    match open_beneath(root, &target.path, libc::O_PATH, plain) {
        Err(libc::ENOENT) => {}
        other => return other,
    }
    let last = target.prefixes.len().saturating_sub(1);
    let mut parent = check(raw!(SYS_fcntl, root, libc::F_DUPFD_CLOEXEC, 3))?;
    for (index, prefix) in target.prefixes.iter().enumerate() {
        let found = match open_beneath(root, &prefix.path, libc::O_PATH, plain) {
            Err(libc::ENOENT) => make(
                parent,
                &prefix.name,
                if index == last { point } else { MountPoint::Directory },
            )
            .and_then(|()| open_beneath(parent, &prefix.name, libc::O_PATH, true)),
            other => other,
        };
        raw!(SYS_close, parent);
        parent = found?;
    }
    Ok(parent)
}

unsafe fn make(parent: isize, name: &CStr, point: MountPoint) -> Outcome<()> {
    match point {
        MountPoint::Directory => check(raw!(SYS_mkdirat, parent, name.as_ptr(), 0o755)).map(drop),
        MountPoint::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let fd = check(raw!(SYS_openat, parent, name.as_ptr(), flags, 0o644))?;
            raw!(SYS_close, fd);
            Ok(())
        }
    }
}

struct Mask {
    /// An empty read-only file system, mounted for the first masked directory.
    directory: Option<isize>,
}

unsafe fn carry_out(root: isize, action: &Action, mask: &mut Mask) -> Outcome<()> {
    match action {
        Action::Attach { tree, target, point } => {
            let at = open_target(root, target, *point, false)?;
            let attached = attach(*tree as isize, at);
            raw!(SYS_close, at);
            attached
        }
        Action::Mount {
            source,
            kind,
            flags,
            data,
            target,
            plain,
            inside: _,
        } => {
            let at = open_target(root, target, MountPoint::Directory, *plain)?;
            let mounted = mount_at(at, source, kind, *flags, data);
            raw!(SYS_close, at);
            mounted
        }
        Action::DefaultDevices { target, nodes, links } => {
            let at = open_target(root, target, MountPoint::Directory, false)?;
            let made = default_devices(at, nodes, links);
            raw!(SYS_close, at);
            made
        }
        Action::Device { parent, node } => {
            let at = open_target(root, parent, MountPoint::Directory, false)?;
            // A leftover of the image must not pass for the device.
            raw!(SYS_unlinkat, at, node.name.as_ptr(), 0);
            let made = make_node(at, node);
            raw!(SYS_close, at);
            made
        }
        Action::Mask { path } => hide(root, path, mask),
        Action::ReadOnly { path } => match open_beneath(root, path, libc::O_PATH, false) {
            Err(libc::ENOENT | libc::ENOTDIR) => Ok(()),
            Err(errno) => Err(errno),
            Ok(at) => {
                let covered = cover_readonly(at);
                raw!(SYS_close, at);
                covered
            }
        },
    }
}

unsafe fn attach(tree: isize, at: isize) -> Outcome<()> {
    check(raw!(
        SYS_move_mount,
        tree,
        c"".as_ptr(),
        at,
        c"".as_ptr(),
        MOVE_MOUNT_EMPTY_PATHS
    ))
    .map(drop)
}

unsafe fn mount_at(at: isize, source: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Outcome<()> {
    check(raw!(SYS_fchdir, at))?;
    let mounted = raw!(
        SYS_mount,
        source.as_ptr(),
        c".".as_ptr(),
        kind.as_ptr(),
        flags,
        data.as_ptr()
    );
    raw!(SYS_chdir, c"/".as_ptr());
    check(mounted).map(drop)
}

unsafe fn default_devices(at: isize, nodes: &[Node], links: &[(std::ffi::CString, std::ffi::CString)]) -> Outcome<()> {
    for node in nodes {
        match make_node(at, node) {
            Err(errno) if errno != libc::EEXIST => return Err(errno),
            _ => {}
        }
    }
    for (content, name) in links {
        match check(raw!(SYS_symlinkat, content.as_ptr(), at, name.as_ptr())) {
            Err(errno) if errno != libc::EEXIST => return Err(errno),
            _ => {}
        }
    }
    Ok(())
}

unsafe fn make_node(at: isize, node: &Node) -> Outcome<()> {
    check(raw!(SYS_mknodat, at, node.name.as_ptr(), node.mode, node.device))?;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    let given = raw!(SYS_fchownat, at, node.name.as_ptr(), node.uid, node.gid, flags);
    check(given).map(drop)
}

unsafe fn attributes_of(fd: isize) -> Outcome<libc::stat> {
    let mut attributes: libc::stat = std::mem::zeroed();
    check(raw!(SYS_fstat, fd, &mut attributes as *mut libc::stat))?;
    Ok(attributes)
}

unsafe fn hide(root: isize, path: &CStr, mask: &mut Mask) -> Outcome<()> {
    let at = match open_beneath(root, path, libc::O_PATH, false) {
        Err(libc::ENOENT | libc::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let is_directory = attributes_of(at)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let hidden = match (is_directory, mask.directory) {
        (false, _) => null_device(root).and_then(|null| {
            let covered = clone_tree(null, 0).and_then(|tree| attach(tree, at));
            raw!(SYS_close, null);
            covered
        }),
        (true, Some(directory)) => clone_tree(directory, 0).and_then(|tree| attach(tree, at)),
        (true, None) => {
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let mounted = mount_at(at, c"tmpfs", c"tmpfs", flags, c"size=4k,nr_inodes=2,mode=0755");
            mounted
                .and_then(|()| open_beneath(root, path, libc::O_PATH, false))
                .map(|it| mask.directory = Some(it))
        }
    };
    raw!(SYS_close, at);
    hidden
}

/// The container's own null device, and nothing that the image has put in its place.
unsafe fn null_device(root: isize) -> Outcome<isize> {
    let fd = open_beneath(root, c"/dev/null", libc::O_PATH, true)?;
    let attributes = attributes_of(fd)?;
    if attributes.st_mode & libc::S_IFMT != libc::S_IFCHR || attributes.st_rdev != NULL_DEVICE {
        raw!(SYS_close, fd);
        return Err(libc::ENXIO);
    }
    Ok(fd)
}

unsafe fn clone_tree(fd: isize, recursive: i32) -> Outcome<isize> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | recursive;
    check(raw!(SYS_open_tree, fd, c"".as_ptr(), flags))
}

unsafe fn cover_readonly(at: isize) -> Outcome<()> {
    let tree = clone_tree(at, libc::AT_RECURSIVE)?;
    let covered = make_readonly(tree, libc::AT_RECURSIVE).and_then(|()| attach(tree, at));
    raw!(SYS_close, tree);
    covered
}

unsafe fn make_readonly(mount: isize, recursive: i32) -> Outcome<()> {
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttributes::default()
    };
    let (pointer, size) = (&attributes as *const MountAttributes, size_of::<MountAttributes>());
    check(raw!(
        SYS_mount_setattr,
        mount,
        c"".as_ptr(),
        libc::AT_EMPTY_PATH | recursive,
        pointer,
        size
    ))
    .map(drop)
}

// ---------------------------------------------------------------- the terminal

unsafe fn open_terminal(report: Reporter, root: isize, size: &TerminalSize, uid: u32) -> Outcome<isize> {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = open_beneath(root, c"/dev/pts/ptmx", flags, true)?;
    let mut kind: libc::statfs = std::mem::zeroed();
    check(raw!(SYS_fstatfs, master, &mut kind as *mut libc::statfs))?;
    if kind.f_type != DEVPTS_MAGIC {
        return Err(libc::ENODEV);
    }
    let unlocked = 0i32;
    check(raw!(SYS_ioctl, master, libc::TIOCSPTLCK, &unlocked as *const i32))?;
    let terminal = check(raw!(SYS_ioctl, master, libc::TIOCGPTPEER, flags | libc::O_CLOEXEC))?;
    if size.width != 0 && size.height != 0 {
        let size = libc::winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        check(raw!(
            SYS_ioctl,
            terminal,
            libc::TIOCSWINSZ,
            &size as *const libc::winsize
        ))?;
    }
    check(raw!(SYS_fchown, terminal, uid, u32::MAX))?;
    check(raw!(SYS_ioctl, terminal, libc::TIOCSCTTY, 0))?;
    send_descriptor(report, master)?;
    raw!(SYS_close, master);
    Ok(terminal)
}

/// struct cmsghdr with one descriptor, as the kernel lays it out.
#[repr(C, align(8))]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    descriptor: i32,
    _padding: i32,
}

unsafe fn send_descriptor(report: Reporter, descriptor: isize) -> Outcome<()> {
    let mut bytes = Report {
        kind: KIND_TERMINAL,
        stage: 0,
        errno: 0,
    }
    .as_bytes();
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: SIZE,
    };
    let mut rights = Rights {
        length: 20,
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        descriptor: descriptor as i32,
        _padding: 0,
    };
    let mut header: libc::msghdr = std::mem::zeroed();
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&mut rights as *mut Rights).cast();
    header.msg_controllen = size_of::<Rights>();
    check(raw!(SYS_sendmsg, report.socket, &header as *const libc::msghdr, 0)).map(drop)
}

/// Programs find the terminal at /dev/console, whatever its number in /dev/pts is.
unsafe fn bind_console(root: isize, terminal: isize) -> Outcome<()> {
    let dev = open_beneath(root, c"/dev", libc::O_PATH | libc::O_DIRECTORY, true)?;
    let made = make(dev, c"console", MountPoint::File);
    let at = match made {
        Err(errno) if errno != libc::EEXIST => Err(errno),
        _ => open_beneath(dev, c"console", libc::O_PATH, true),
    };
    raw!(SYS_close, dev);
    let at = at?;
    let bound = clone_tree(terminal, 0).and_then(|tree| attach(tree, at));
    raw!(SYS_close, at);
    bound
}

// ---------------------------------------------------------------- the process

unsafe fn enter(root: isize, directory: &Target) -> Outcome<()> {
    let at = open_target(root, directory, MountPoint::Directory, false)?;
    // Resolved without /proc's magic links, so no descriptor of the guest can become the directory.
    let entered = check(raw!(SYS_fchdir, at)).map(drop);
    raw!(SYS_close, at);
    entered
}

unsafe fn execute(report: Reporter, program: &Program, terminal: Option<isize>) -> ! {
    for limit in &program.limits {
        let values = [limit.soft, limit.hard];
        report.need(
            stage::LIMITS,
            check(raw!(SYS_prlimit64, 0, limit.resource, values.as_ptr(), 0)),
        );
    }
    raw!(SYS_umask, 0o022);
    for (number, fd) in (0isize..).zip(streams(program, terminal)) {
        report.need(stage::STREAMS, check(raw!(SYS_dup3, fd, number, 0)));
    }
    // The agent's descriptors must neither reach the program nor, while it waits, keep the pipes of
    // other containers open.
    let report = close_others(report);
    privileges(report, program);
    if program.hold {
        wait_for_permission(report);
    }
    let path = report.need(stage::EXECUTE, choose(program));
    if let Some(filter) = &program.seccomp {
        // struct sock_fprog
        let filter_program = libc::sock_fprog {
            len: filter.code.len() as u16,
            filter: filter.code.as_ptr().cast_mut(),
        };
        let installed = raw!(
            SYS_seccomp,
            SET_MODE_FILTER,
            filter.flags,
            &filter_program as *const libc::sock_fprog
        );
        report.need(stage::SECCOMP, check(installed));
    }
    let failed = raw!(
        SYS_execve,
        path.as_ptr(),
        program.arguments.as_ptr(),
        program.environment.as_ptr()
    );
    report.give_up(stage::EXECUTE, -failed as Errno)
}

/// Leaves 0, 1, 2 and the socket, which becomes 3.
unsafe fn close_others(report: Reporter) -> Reporter {
    if report.socket != 3 {
        report.need(
            stage::DESCRIPTORS,
            check(raw!(SYS_dup3, report.socket, 3, libc::O_CLOEXEC)),
        );
    }
    report.need(stage::DESCRIPTORS, check(raw!(SYS_close_range, 4, u32::MAX, 0)));
    Reporter { socket: 3 }
}

fn streams(program: &Program, terminal: Option<isize>) -> [isize; 3] {
    match (&program.streams, terminal) {
        (_, Some(terminal)) => [terminal; 3],
        (Streams::Files(files), None) => [files[0] as isize, files[1] as isize, files[2] as isize],
        (Streams::Terminal(_), None) => [-1; 3],
    }
}

/// Ends with the program's user and capabilities.
///
/// Installing a filter without no_new_privileges takes `CAP_SYS_ADMIN`, and the filter may forbid the
/// call that would give it up afterwards. But what a process has right before execve plays no part in
/// what it has after it (capabilities(7), "Transformation of capabilities during execve"): only the
/// bounding, inheritable and ambient sets and the user do. So `CAP_SYS_ADMIN` may stay until then.
unsafe fn privileges(report: Reporter, program: &Program) {
    let sets = program.capabilities;
    for capability in 0..=LAST_CAPABILITY {
        if sets.bounding.mask() & (1 << capability) == 0 {
            match check(raw!(SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0)) {
                // The first number that this kernel has no capability for.
                Err(libc::EINVAL) => break,
                other => report.need(stage::BOUNDING, other),
            };
        }
    }
    let groups = &program.groups;
    report.need(stage::GROUPS, check(raw!(SYS_setgroups, groups.len(), groups.as_ptr())));
    report.need(stage::USER, check(raw!(SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)));
    report.need(
        stage::USER,
        check(raw!(SYS_setresgid, program.gid, program.gid, program.gid)),
    );
    report.need(
        stage::USER,
        check(raw!(SYS_setresuid, program.uid, program.uid, program.uid)),
    );
    let needs_admin = program.seccomp.is_some() && !program.no_new_privileges;
    let extra = if needs_admin { CAP_SYS_ADMIN } else { 0 };
    let ambient = sets.ambient.mask();
    let permitted = sets.permitted.mask() | ambient | extra;
    set_capabilities(
        report,
        sets.effective.mask() | extra,
        permitted,
        sets.inheritable.mask(),
    );
    for capability in 0..=LAST_CAPABILITY {
        if ambient & (1 << capability) != 0 {
            let raised = raw!(
                SYS_prctl,
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                capability,
                0,
                0
            );
            report.need(stage::CAPABILITIES, check(raised));
        }
    }
    if program.no_new_privileges {
        report.need(
            stage::NO_NEW_PRIVILEGES,
            check(raw!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        );
    }
    // This is still the agent's memory, or a copy of it: nothing in the container may look into it.
    raw!(SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
}

unsafe fn set_capabilities(report: Reporter, effective: u64, permitted: u64, inheritable: u64) {
    let header = [CAPABILITY_VERSION, 0];
    let mut data = [0u32; 6];
    for (half, words) in data.chunks_exact_mut(3).enumerate() {
        let shift = 32 * half as u32;
        for (word, set) in words.iter_mut().zip([effective, permitted, inheritable]) {
            *word = (set >> shift) as u32;
        }
    }
    report.need(
        stage::CAPABILITIES,
        check(raw!(SYS_capset, header.as_ptr(), data.as_ptr())),
    );
}

unsafe fn wait_for_permission(report: Reporter) {
    report.send(KIND_READY, 0, 0);
    let mut byte = 0u8;
    loop {
        match check(raw!(SYS_read, report.socket, &mut byte as *mut u8, 1)) {
            Err(libc::EINTR) => {}
            Ok(1) => return,
            _ => exit(EXIT_CANNOT_EXECUTE),
        }
    }
}

/// The first candidate that this user may execute. Told apart from execve itself, so that a filter
/// that forbids everything else cannot keep the reason from the agent.
unsafe fn choose(program: &Program) -> Outcome<&CStr> {
    let mut reason = libc::ENOENT;
    for candidate in &program.candidates {
        match executable(candidate) {
            Ok(()) => return Ok(candidate),
            Err(libc::ENOENT | libc::ENOTDIR) => {}
            Err(errno) => reason = errno,
        }
    }
    Err(reason)
}

unsafe fn executable(path: &CStr) -> Outcome<()> {
    let mut attributes: libc::stat = std::mem::zeroed();
    check(raw!(
        SYS_newfstatat,
        CWD,
        path.as_ptr(),
        &mut attributes as *mut libc::stat,
        0
    ))?;
    match attributes.st_mode & libc::S_IFMT {
        libc::S_IFDIR => return Err(libc::EISDIR),
        libc::S_IFREG => {}
        _ => return Err(libc::EACCES),
    }
    check(raw!(SYS_faccessat2, CWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)).map(drop)
}

/// struct sigaction as the kernel has it.
#[repr(C)]
struct SignalAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// What happens on a signal: `SIG_DFL` or `SIG_IGN`.
unsafe fn set_disposition(signal: i32, handler: usize) {
    let action = SignalAction {
        handler,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    raw!(SYS_rt_sigaction, signal, &action as *const SignalAction, 0, 8);
}

unsafe fn pause(report: Reporter) -> ! {
    // The kernel collects the children of a process that ignores their end.
    set_disposition(libc::SIGCHLD, libc::SIG_IGN);
    raw!(SYS_close_range, 0, 2, 0);
    let report = close_others(report);
    for capability in 0..=LAST_CAPABILITY {
        raw!(SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
    }
    set_capabilities(report, 0, 0, 0);
    report.need(
        stage::NO_NEW_PRIVILEGES,
        check(raw!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
    );
    raw!(SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    report.send(KIND_READY, 0, 0);
    raw!(SYS_close, 3);
    loop {
        raw!(SYS_pause);
    }
}
