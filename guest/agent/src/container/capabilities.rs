//! Linux capabilities by name, and sets of them.

use std::fmt;

use thiserror::Error;

use crate::proto;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CapabilityError {
    #[error("process.capabilities: unknown capability {0:?}")]
    Unknown(String),
    #[error("process.capabilities: ambient capability {0} is not both permitted and inheritable")]
    Ambient(Capability),
    #[error("process.capabilities: effective capability {0} is not permitted")]
    Effective(Capability),
}

/// By number, without the prefix `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u8);

impl Capability {
    pub const DAC_READ_SEARCH: Self = Self(2);
    pub const SYS_MODULE: Self = Self(16);
    pub const SYS_RAWIO: Self = Self(17);
    pub const SYS_CHROOT: Self = Self(18);
    pub const SYS_PTRACE: Self = Self(19);
    pub const SYS_PACCT: Self = Self(20);
    pub const SYS_ADMIN: Self = Self(21);
    pub const SYS_BOOT: Self = Self(22);
    pub const SYS_NICE: Self = Self(23);
    pub const SYS_TIME: Self = Self(25);
    pub const SYS_TTY_CONFIG: Self = Self(26);
    pub const SYSLOG: Self = Self(34);
    pub const PERFMON: Self = Self(38);
    pub const BPF: Self = Self(39);

    /// Takes `CAP_NET_RAW`, in any case.
    pub fn parse(name: &str) -> Result<Self, CapabilityError> {
        let upper = name.to_ascii_uppercase();
        let index = upper
            .strip_prefix("CAP_")
            .and_then(|short| NAMES.iter().position(|known| *known == short));
        let number = index.and_then(|index| u8::try_from(index).ok());
        number
            .map(Self)
            .ok_or_else(|| CapabilityError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CAP_{}", NAMES.get(usize::from(self.0)).unwrap_or(&"?"))
    }
}

/// A set, as the kernel's 64-bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    pub fn parse(names: &[String]) -> Result<Self, CapabilityError> {
        names
            .iter()
            .try_fold(Self::default(), |set, name| Ok(set.with(Capability::parse(name)?)))
    }

    pub fn mask(self) -> u64 {
        self.0
    }

    pub fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability.0)
    }

    fn first_outside(self, other: Self) -> Option<Capability> {
        let outside = self.0 & !other.0;
        (outside != 0).then(|| Capability(u8::try_from(outside.trailing_zeros()).unwrap_or_default()))
    }
}

impl From<Capability> for CapabilitySet {
    fn from(capability: Capability) -> Self {
        Self::default().with(capability)
    }
}

/// The five sets of a process, consistent with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    pub permitted: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub ambient: CapabilitySet,
}

impl Capabilities {
    pub fn parse(request: &proto::Capabilities) -> Result<Self, CapabilityError> {
        let sets = Self {
            bounding: CapabilitySet::parse(&request.bounding)?,
            effective: CapabilitySet::parse(&request.effective)?,
            permitted: CapabilitySet::parse(&request.permitted)?,
            inheritable: CapabilitySet::parse(&request.inheritable)?,
            ambient: CapabilitySet::parse(&request.ambient)?,
        };
        if let Some(capability) = sets.effective.first_outside(sets.permitted) {
            return Err(CapabilityError::Effective(capability));
        }
        let inheritable = CapabilitySet(sets.permitted.0 & sets.inheritable.0);
        if let Some(capability) = sets.ambient.first_outside(inheritable) {
            return Err(CapabilityError::Ambient(capability));
        }
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(Capability::parse("CAP_SYS_ADMIN"), Ok(Capability::SYS_ADMIN));
        assert_eq!(Capability::parse("cap_bpf"), Ok(Capability::BPF));
        assert_eq!(Capability::parse("CAP_CHECKPOINT_RESTORE"), Ok(Capability(40)));
        assert_eq!(
            Capability::parse("SYS_ADMIN"),
            Err(CapabilityError::Unknown("SYS_ADMIN".to_owned()))
        );
        let set = CapabilitySet::parse(&names(&["CAP_CHOWN", "CAP_NET_RAW"])).unwrap();
        assert_eq!(set.mask(), 1 | 1 << 13);
    }

    #[test]
    fn sets_that_the_kernel_would_refuse_are_refused() {
        let request = proto::Capabilities {
            permitted: names(&["CAP_CHOWN"]),
            inheritable: names(&["CAP_NET_RAW"]),
            ambient: names(&["CAP_NET_RAW"]),
            ..Default::default()
        };
        let error = Capabilities::parse(&request).unwrap_err();
        assert_eq!(
            error.to_string(),
            "process.capabilities: ambient capability CAP_NET_RAW is not both permitted and inheritable"
        );
        let request = proto::Capabilities {
            effective: names(&["CAP_KILL"]),
            ..Default::default()
        };
        assert!(Capabilities::parse(&request).is_err());
    }
}
