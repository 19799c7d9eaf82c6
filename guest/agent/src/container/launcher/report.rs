//! What the child tells the agent over the socket that it was given.

/// One message is one of these; end of file without a message means that execve has happened.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub kind: u32,
    /// One of the constants of `stage`, or `stage::ROOT_STEP` and the number of the step.
    pub stage: u32,
    pub errno: u32,
}

pub const KIND_READY: u32 = 1;
pub const KIND_FAILED: u32 = 2;
/// Comes with the descriptor of the terminal.
pub const KIND_TERMINAL: u32 = 3;

pub const SIZE: usize = size_of::<Report>();

impl Report {
    pub fn as_bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip([self.kind, self.stage, self.errno]) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes
            .chunks_exact(4)
            .filter_map(|it| it.try_into().ok().map(u32::from_ne_bytes));
        let report = Self {
            kind: words.next()?,
            stage: words.next()?,
            errno: words.next()?,
        };
        (bytes.len() == SIZE).then_some(report)
    }
}

/// Where the child is; names for error messages.
pub mod stage {
    macro_rules! stages {
        ($($name:ident = $text:literal),+ $(,)?) => {
            stages!(@numbers 0u32; $($name,)+);
            const NAMES: &[&str] = &[$($text),+];
        };
        (@numbers $number:expr; $name:ident, $($rest:tt)*) => {
            pub const $name: u32 = $number;
            stages!(@numbers $number + 1; $($rest)*);
        };
        (@numbers $number:expr;) => {};
    }

    stages! {
        SESSION = "make a session",
        OOM_SCORE = "set process.oom_score_adj",
        JOIN = "join the container's namespaces",
        JOIN_POD = "join the pod's namespaces",
        USER_NAMESPACE = "enter the pod's user namespace",
        CGROUP_NAMESPACE = "make a cgroup namespace",
        PROPAGATION = "make mounts private",
        EMPTY_ROOT = "make an empty root",
        CHANGE_ROOT = "change the root",
        LEAVE_ROOT = "leave the guest's root",
        OPEN_ROOT = "open the root",
        READONLY_ROOT = "make the root read-only",
        LIMITS = "set process.rlimits",
        TERMINAL = "open a terminal",
        CONSOLE = "make /dev/console",
        STREAMS = "set up the standard streams",
        WORKING_DIRECTORY = "enter process.cwd",
        DESCRIPTORS = "close descriptors",
        BOUNDING = "drop capabilities from the bounding set",
        GROUPS = "set the groups",
        USER = "set the user",
        CAPABILITIES = "set capabilities",
        NO_NEW_PRIVILEGES = "set no_new_privileges",
        SECCOMP = "install the seccomp filter",
        EXECUTE = "execute",
    }

    pub const ROOT_STEP: u32 = 1000;

    pub fn name(stage: u32) -> &'static str {
        NAMES.get(stage as usize).copied().unwrap_or("unknown stage")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_socket() {
        let report = Report {
            kind: KIND_FAILED,
            stage: stage::EXECUTE,
            errno: 2,
        };
        assert_eq!(Report::from_bytes(&report.as_bytes()), Some(report));
        assert_eq!(Report::from_bytes(&[0; 3]), None);
    }

    #[test]
    fn stages_have_their_names() {
        assert_eq!(stage::name(stage::SESSION), "make a session");
        assert_eq!(stage::name(stage::EXECUTE), "execute");
        assert_eq!(stage::name(stage::EXECUTE + 1), "unknown stage");
    }
}
