//! Which devices a container may use: a small BPF program on its cgroup. Without it `CAP_MKNOD` would
//! open every device of the guest, its disks among them.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use thiserror::Error;

use super::{launcher::plain, user_namespace::Unmapped};
use crate::{disks::DiskError, proto};

#[derive(Debug, Error)]
pub enum DeviceError {
    #[error("devices: {path:?}: type {found:?} is not b, c or p")]
    Type { path: String, found: String },
    #[error("devices: {path:?}: access {found:?} is not made of r, w and m")]
    Access { path: String, found: String },
    #[error("devices: {path:?}: {major}:{minor} is not a device number")]
    Number { path: String, major: i64, minor: i64 },
    #[error("devices: more than {MAX_RULES} rules")]
    TooMany,
    #[error("devices: the guest has no device {path:?}")]
    Absent { path: String },
    #[error("devices: {path:?}: {}", plain(.source))]
    List { path: String, source: io::Error },
    #[error("devices: {0}")]
    Unmapped(#[from] Unmapped),
    #[error("devices: {0}")]
    Disk(#[from] DiskError),
    #[error("device program: {step}: {source}")]
    Kernel { step: &'static str, source: io::Error },
}

pub const MAX_RULES: usize = 256;

// linux/bpf.h: BPF_DEVCG_*
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Block = 1,
    Character = 2,
}

/// Allows `access` to devices of a kind; None stands for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

const fn rule(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        kind,
        major,
        minor,
        access,
    }
}

/// What each container may use: any node may be made, but only these opened.
const DEFAULT_RULES: [Rule; 10] = [
    rule(Kind::Character, Some(1), Some(3), ALL), // null
    rule(Kind::Character, Some(1), Some(5), ALL), // zero
    rule(Kind::Character, Some(1), Some(7), ALL), // full
    rule(Kind::Character, Some(1), Some(8), ALL), // random
    rule(Kind::Character, Some(1), Some(9), ALL), // urandom
    rule(Kind::Character, Some(5), Some(0), ALL), // tty
    rule(Kind::Character, Some(5), Some(2), ALL), // ptmx
    rule(Kind::Character, Some(136), None, ALL),  // pts
    rule(Kind::Character, None, None, MKNOD),
    rule(Kind::Block, None, None, MKNOD),
];

/// The rules for the devices asked for; None: everything is allowed.
pub fn rules(devices: &[proto::Device]) -> Result<Option<Vec<Rule>>, DeviceError> {
    if devices.iter().any(|device| device.all) {
        return Ok(None);
    }
    let mut rules = DEFAULT_RULES.to_vec();
    for device in devices {
        let kind = match device.r#type.as_str() {
            "b" => Kind::Block,
            "c" | "u" => Kind::Character,
            "p" => continue,
            _ => {
                return Err(DeviceError::Type {
                    path: device.path.clone(),
                    found: device.r#type.clone(),
                });
            }
        };
        let (major, minor) = numbers(device)?;
        rules.push(Rule {
            kind,
            major: Some(major),
            minor: Some(minor),
            access: access(device)?,
        });
    }
    if rules.len() > MAX_RULES {
        return Err(DeviceError::TooMany);
    }
    Ok(Some(rules))
}

/// Major and minor, checked: 12 and 20 bits, as the kernel has it.
pub fn numbers(device: &proto::Device) -> Result<(u32, u32), DeviceError> {
    let major = u32::try_from(device.major).ok().filter(|it| *it < 1 << 12);
    let minor = u32::try_from(device.minor).ok().filter(|it| *it < 1 << 20);
    major.zip(minor).ok_or_else(|| DeviceError::Number {
        path: device.path.clone(),
        major: device.major,
        minor: device.minor,
    })
}

fn access(device: &proto::Device) -> Result<u8, DeviceError> {
    let bits = device.access.chars().try_fold(0, |bits, letter| match letter {
        'r' => Some(bits | READ),
        'w' => Some(bits | WRITE),
        'm' => Some(bits | MKNOD),
        _ => None,
    });
    bits.ok_or_else(|| DeviceError::Access {
        path: device.path.clone(),
        found: device.access.clone(),
    })
}

/// struct `bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

// Registers: r1 is the context; the program copies its fields to these.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// The program: the first rule that fits allows; otherwise no.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        // struct bpf_cgroup_dev_ctx: access in the upper and kind in the lower half of the first word
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND_32, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        code.extend(block(*rule));
    }
    code.push(instruction(MOVE, RESULT, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

fn block(rule: Rule) -> Vec<Instruction> {
    // Pairs of what to compare; each failing comparison leaves the block.
    let mut code = vec![instruction(IF_NOT_EQUAL, KIND, 0, 0, rule.kind as i32)];
    if rule.access != ALL {
        code.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        code.push(instruction(AND_32, SCRATCH, 0, 0, i32::from(ALL & !rule.access)));
        code.push(instruction(IF_NOT_EQUAL, SCRATCH, 0, 0, 0));
    }
    // Device numbers have at most 20 bits.
    for (register, wanted) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(wanted) = wanted.and_then(|it| i32::try_from(it).ok()) {
            code.push(instruction(IF_NOT_EQUAL, register, 0, 0, wanted));
        }
    }
    code.push(instruction(MOVE, RESULT, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    let length = code.len();
    for (index, it) in code.iter_mut().enumerate() {
        if it.code == IF_NOT_EQUAL {
            it.offset = i16::try_from(length - index - 1).unwrap_or(i16::MAX);
        }
    }
    code
}

/// Loaded programs by their rules; most containers of a pod share one.
#[derive(Clone, Default)]
pub struct DevicePrograms {
    loaded: Arc<Mutex<HashMap<Vec<Rule>, Arc<OwnedFd>>>>,
}

const KEPT_PROGRAMS: usize = 32;

impl DevicePrograms {
    /// Holds the cgroup to the rules from now on. The cgroup keeps the program.
    pub fn attach(&self, rules: Vec<Rule>, cgroup: BorrowedFd<'_>) -> Result<(), DeviceError> {
        let program = self.program(rules)?;
        let attributes = AttachAttributes {
            target: cgroup.as_raw_fd(),
            program: program.as_raw_fd(),
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
        };
        bpf(BPF_PROG_ATTACH, &attributes)
            .map(drop)
            .map_err(|source| DeviceError::Kernel { step: "attach", source })
    }

    fn program(&self, rules: Vec<Rule>) -> Result<Arc<OwnedFd>, DeviceError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(&rules) {
            return Ok(Arc::clone(known));
        }
        let fd = Arc::new(load(&program(&rules)).map_err(|source| DeviceError::Kernel { step: "load", source })?);
        if loaded.len() >= KEPT_PROGRAMS {
            loaded.clear();
        }
        loaded.insert(rules, Arc::clone(&fd));
        Ok(fd)
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The beginning of union `bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// The beginning of union `bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes outlive the call, the size is theirs, and what they point to lives in
    // the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just made it; bpf descriptors are close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    // Test data is made to fit.
    #![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

    use super::*;

    /// Runs the program as the kernel would.
    fn run(code: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let it = code[at];
            at += 1;
            let (to, from) = (usize::from(it.registers & 15), usize::from(it.registers >> 4));
            match it.code {
                LOAD_WORD => registers[to] = u64::from(context[it.offset as usize / 4]),
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE => registers[to] = it.immediate as u64,
                AND_32 => registers[to] &= u64::from(it.immediate as u32),
                SHIFT_RIGHT_32 => registers[to] = u64::from(registers[to] as u32 >> it.immediate),
                IF_NOT_EQUAL if registers[to] != it.immediate as u64 => at += it.offset as usize,
                IF_NOT_EQUAL => {}
                EXIT => return registers[0] != 0,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn device(kind: &str, major: i64, minor: i64, access: &str) -> proto::Device {
        proto::Device {
            path: "/dev/it".to_owned(),
            r#type: kind.to_owned(),
            major,
            minor,
            access: access.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn default_devices_and_nothing_else() {
        let code = program(&rules(&[]).unwrap().unwrap());
        assert!(run(&code, Kind::Character, READ | WRITE, 1, 3));
        assert!(run(&code, Kind::Character, READ, 136, 77));
        assert!(run(&code, Kind::Block, MKNOD, 254, 0));
        assert!(!run(&code, Kind::Block, READ, 254, 0));
        assert!(!run(&code, Kind::Block, READ | MKNOD, 254, 0));
        assert!(!run(&code, Kind::Character, READ, 1, 1));
        assert!(!run(&code, Kind::Character, WRITE, 10, 200));
    }

    #[test]
    fn devices_asked_for_are_allowed_as_asked() {
        let code = program(
            &rules(&[device("b", 8, 16, "r"), device("p", 0, 0, "rw")])
                .unwrap()
                .unwrap(),
        );
        assert!(run(&code, Kind::Block, READ, 8, 16));
        assert!(!run(&code, Kind::Block, WRITE, 8, 16));
        assert!(!run(&code, Kind::Block, READ | WRITE, 8, 16));
        assert!(!run(&code, Kind::Block, READ, 8, 17));
        assert!(!run(&code, Kind::Character, READ, 8, 16));
    }

    #[test]
    fn all_means_no_program() {
        let all = proto::Device {
            all: true,
            ..Default::default()
        };
        assert_eq!(rules(&[all]).unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(rules(&[device("x", 1, 1, "r")]).is_err());
        assert!(rules(&[device("c", 1, 1, "rx")]).is_err());
        assert!(rules(&[device("c", -1, 1, "r")]).is_err());
        assert!(rules(&[device("c", 1, 1 << 20, "r")]).is_err());
        assert!(rules(&vec![device("c", 1, 1, "r"); MAX_RULES]).is_err());
    }
}
