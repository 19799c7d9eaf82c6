//! What a seccomp filter decides, before it is made a program.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
}

impl Action {
    /// The value a filter returns, as <linux/seccomp.h> defines it.
    pub fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }

    /// Whether the caller is refused; then calls that are newer than the profile are best unknown.
    pub fn refuses(self) -> bool {
        !matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }
}

/// A condition on one 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    MaskedEqual { mask: u64, value: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which argument, 0 to 5.
    pub index: u8,
    pub operator: Operator,
}

/// An action for when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub compares: Vec<Compare>,
    pub action: Action,
}

/// The rules are tried in order, then `otherwise`, then the default of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallPolicy {
    pub rules: Vec<Rule>,
    pub otherwise: Option<Action>,
}

impl CallPolicy {
    pub fn always(action: Action) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: Some(action),
        }
    }

    pub fn when(rule: Rule) -> Self {
        Self {
            rules: vec![rule],
            otherwise: None,
        }
    }
}

/// What holds for the system calls of one architecture, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub default: Action,
    pub calls: BTreeMap<u32, CallPolicy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub native: Policy,
    /// None: a process that makes an i386 call is killed.
    pub i386: Option<Policy>,
    /// `SECCOMP_FILTER_FLAG_*` for the installation.
    pub flags: u32,
}
