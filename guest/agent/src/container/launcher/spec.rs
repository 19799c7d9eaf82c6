//! What the child does between clone3 and execve: prepared by the agent, where memory can be
//! allocated and errors can be told, so that the child only has to walk through it.

use std::{
    ffi::{CString, NulError},
    os::fd::{OwnedFd, RawFd},
    os::raw::c_char,
    sync::Arc,
};

use crate::container::{capabilities::Capabilities, seccomp, user_namespace::UserNamespace};

/// Strings as execve takes them: pointers with a null at the end. The strings never move.
pub struct StringList {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are into strings that it owns and nobody changes.
unsafe impl Send for StringList {}

impl StringList {
    pub fn new<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Result<Self, NulError> {
        let strings = strings
            .into_iter()
            .map(|it| CString::new(it.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let pointers = strings.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self {
            _strings: strings,
            pointers,
        })
    }

    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// A path of the container and what is needed to make it step by step.
pub struct Target {
    pub path: CString,
    /// All leading parts, the path itself last: /a, /a/b.
    pub prefixes: Vec<Prefix>,
}

pub struct Prefix {
    pub path: CString,
    /// The last component.
    pub name: CString,
}

impl Target {
    /// `path` is absolute and normal: no empty, `.` or `..` components.
    pub fn new(path: &str) -> Result<Self, NulError> {
        let mut prefixes = Vec::new();
        let mut prefix = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            prefix.push('/');
            prefix.push_str(name);
            prefixes.push(Prefix {
                path: CString::new(prefix.as_str())?,
                name: CString::new(name)?,
            });
        }
        Ok(Self {
            path: CString::new(path)?,
            prefixes,
        })
    }
}

/// Whether a missing mount point is made as a directory or as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPoint {
    Directory,
    File,
}

pub struct Node {
    pub name: CString,
    /// With the type bits.
    pub mode: u32,
    pub device: u64,
    /// As the guest's kernel knows it.
    pub uid: u32,
    pub gid: u32,
}

/// One step towards the container's root file system. They are carried out in order, after the
/// change of the root; those inside the user namespace last.
pub enum Action {
    /// Attaches a detached mount, one of the descriptors of the `Launch`.
    Attach {
        tree: RawFd,
        target: Target,
        point: MountPoint,
    },
    /// mount(2). `plain`: no part of the path may be a symbolic link, since what is mounted is
    /// trusted by its path later on. `inside`: in the user namespace, if there is one.
    Mount {
        source: CString,
        kind: CString,
        flags: u64,
        data: CString,
        target: Target,
        plain: bool,
        inside: bool,
    },
    /// The default nodes and links; what is there already stays.
    DefaultDevices {
        target: Target,
        nodes: Vec<Node>,
        links: Vec<(CString, CString)>,
    },
    Device {
        parent: Target,
        node: Node,
    },
    /// Hides a path: an empty directory or the null device over it. Missing ones are fine.
    Mask {
        path: CString,
    },
    ReadOnly {
        path: CString,
    },
}

impl Action {
    pub fn is_inside(&self) -> bool {
        matches!(self, Self::Mount { inside: true, .. })
    }
}

pub struct Step {
    pub action: Action,
    /// For error messages, e.g. `mount "/data"`.
    pub label: String,
}

pub struct RootPlan {
    /// Guest path of a mount point.
    pub root: CString,
    pub steps: Vec<Step>,
    pub readonly: bool,
    pub user_namespace: Option<Arc<UserNamespace>>,
}

pub enum Entry {
    Root(RootPlan),
    /// The mount, IPC, UTS and cgroup namespaces of a running process, and those of users and network where
    /// the pod has its own.
    Join {
        pidfd: RawFd,
        user_namespace: bool,
    },
    /// A root with nothing in it: for a process that only keeps a pid namespace alive.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

pub enum Streams {
    /// Become 0, 1 and 2.
    Files([RawFd; 3]),
    /// A new terminal of the container's own devpts; its other end is sent to the agent.
    Terminal(TerminalSize),
}

pub struct Program {
    pub arguments: StringList,
    pub environment: StringList,
    /// What to execute: the first that exists.
    pub candidates: Vec<CString>,
    pub working_directory: Target,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub limits: Vec<ResourceLimit>,
    pub seccomp: Option<Arc<seccomp::Program>>,
    /// As text for /proc/self/oom_score_adj.
    pub oom_score: Option<Vec<u8>>,
    pub streams: Streams,
    /// Wait for permission right before execve.
    pub hold: bool,
}

pub enum Finish {
    Execute(Box<Program>),
    /// Stay as the first process of a pid namespace and collect its orphans.
    Pause,
}

pub struct Launch {
    pub entry: Entry,
    pub finish: Finish,
    /// Those that only the child needs: the agent closes its own as soon as the child has copies.
    pub descriptors: Vec<OwnedFd>,
}
