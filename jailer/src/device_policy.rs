//! Which devices the pod's cgroup may open. The mounts of the jail are `nodev` already; this is the
//! second lock, for a volume that reaches the jail without that flag (one mounted below a shared
//! source later, for instance) while `CAP_MKNOD` is kept for 9p. Making nodes stays allowed, as with other
//! runtimes: they are of use to whoever may open them.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::sys;

/// Major and minor number of a character device.
pub type Device = (u32, u32);

pub const NULL: Device = (1, 3);
pub const ZERO: Device = (1, 5);
pub const URANDOM: Device = (1, 9);
pub const KVM: Device = (10, 232);

/// Applies to everything the cgroup's processes open from now on. A host that lets us do neither is
/// told so once: the flags of the mounts remain.
pub fn apply(cgroups: &[PathBuf], kvm: bool) -> Result<()> {
    let mut allowed = vec![NULL, ZERO, URANDOM];
    if kvm {
        allowed.push(KVM);
    }
    if let Some(folder) = cgroups.iter().find(|folder| folder.join("devices.deny").exists()) {
        return write_rules(folder, &allowed);
    }
    if let Some(folder) = cgroups.iter().find(|folder| folder.join("cgroup.controllers").exists()) {
        let outcome = load(&program(&allowed)).and_then(|program| attach(folder, &program));
        if let Err(error) = outcome {
            eprintln!("kelyfos-jailer: warning: limit devices: {}: {error}", folder.display());
        }
    }
    Ok(())
}

/// The devices controller of cgroup v1.
fn write_rules(folder: &Path, allowed: &[Device]) -> Result<()> {
    let deny = folder.join("devices.deny");
    fs::write(&deny, "a").at("limit devices", &deny)?;
    let allow = folder.join("devices.allow");
    for (major, minor) in allowed {
        fs::write(&allow, format!("c {major}:{minor} rwm")).at("allow device", &allow)?;
    }
    for rule in ["c *:* m", "b *:* m"] {
        // Refused where the host's own group is limited: then the pod cannot make device nodes either.
        match fs::write(&allow, rule) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            outcome => outcome.at("allow making devices", &allow)?,
        }
    }
    Ok(())
}

/// One instruction as the kernel takes it: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low, source in the high four bits.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate: immediate.cast_signed(),
    }
}

/// Opcodes that the program uses; `K` means "with a constant".
const LOAD_WORD: u8 = 0x61;
const AND_K: u8 = 0x54;
const SHIFT_RIGHT_K: u8 = 0x74;
const MOVE_K: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const JUMP_EQUAL_K: u8 = 0x15;
const JUMP_UNEQUAL_K: u8 = 0x55;
const EXIT: u8 = 0x95;

const ACCESS_MAKE: u32 = 1;
const TYPE_CHARACTER: u32 = 2;

/// The same rules for cgroup v2. Input is `struct bpf_cgroup_dev_ctx`: access in the high and type in
/// the low half of the first word, then major and minor number.
fn program(allowed: &[Device]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(MOVE, 0x23, 0, 0),
        instruction(SHIFT_RIGHT_K, 0x03, 0, 16),
        // Access is a mask; only "make and nothing else" passes here.
        instruction(MOVE_K, 0x00, 0, 1),
        instruction(JUMP_UNEQUAL_K, 0x03, 1, ACCESS_MAKE),
        instruction(EXIT, 0, 0, 0),
        instruction(AND_K, 0x02, 0, 0xffff),
        instruction(LOAD_WORD, 0x14, 4, 0),
        instruction(LOAD_WORD, 0x15, 8, 0),
        instruction(JUMP_EQUAL_K, 0x02, 2, TYPE_CHARACTER),
        instruction(MOVE_K, 0x00, 0, 0),
        instruction(EXIT, 0, 0, 0),
    ];
    for (major, minor) in allowed {
        code.push(instruction(JUMP_UNEQUAL_K, 0x04, 2, *major));
        code.push(instruction(JUMP_UNEQUAL_K, 0x05, 1, *minor));
        code.push(instruction(EXIT, 0, 0, 0));
    }
    code.push(instruction(MOVE_K, 0x00, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0));
    code
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; what is left out counts as zero.
#[repr(C)]
struct LoadRequest {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The start of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachRequest {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const COMMAND_LOAD: libc::c_int = 5;
const COMMAND_ATTACH: libc::c_int = 8;
const PROGRAM_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Beside what a service manager may have attached already.
const ALLOW_MULTI: u32 = 2;

fn load(code: &[Instruction]) -> std::io::Result<OwnedFd> {
    let request = LoadRequest {
        kind: PROGRAM_CGROUP_DEVICE,
        count: u32::try_from(code.len()).map_err(std::io::Error::other)?,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    sys::bpf(COMMAND_LOAD, &request).and_then(sys::owned)
}

fn attach(folder: &Path, program: &OwnedFd) -> std::io::Result<()> {
    let folder = sys::open(folder, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let request = AttachRequest {
        target: folder.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    sys::bpf(COMMAND_ATTACH, &request).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tiny interpreter of the instructions above, so that the rules are tested and not their encoding.
    fn allows(code: &[Instruction], access: u32, kind: u32, device: Device) -> bool {
        let context = [access << 16 | kind, device.0, device.1];
        let mut registers = [0u32; 11];
        let mut next = 0;
        loop {
            let Instruction {
                code: operation,
                registers: names,
                offset,
                immediate,
            } = code[next];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let constant = immediate.cast_unsigned();
            next += 1;
            let mut jump = |condition: bool| {
                if condition {
                    next += usize::try_from(offset).unwrap();
                }
            };
            match operation {
                LOAD_WORD => {
                    assert_eq!(from, 1, "only the context is readable");
                    registers[to] = context[usize::try_from(offset).unwrap() / 4];
                }
                MOVE => registers[to] = registers[from],
                MOVE_K => registers[to] = constant,
                AND_K => registers[to] &= constant,
                SHIFT_RIGHT_K => registers[to] >>= constant,
                JUMP_EQUAL_K => jump(registers[to] == constant),
                JUMP_UNEQUAL_K => jump(registers[to] != constant),
                EXIT => return registers[0] == 1,
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    #[test]
    fn only_the_listed_character_devices_can_be_opened() {
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        const BLOCK: u32 = 1;
        let code = program(&[NULL, KVM]);
        for access in [READ, WRITE, READ | WRITE, READ | ACCESS_MAKE] {
            assert!(allows(&code, access, TYPE_CHARACTER, NULL));
            assert!(allows(&code, access, TYPE_CHARACTER, KVM));
            assert!(!allows(&code, access, TYPE_CHARACTER, ZERO));
            assert!(!allows(&code, access, TYPE_CHARACTER, (1, 232)));
            assert!(!allows(&code, access, BLOCK, NULL));
            assert!(!allows(&code, access, BLOCK, (8, 0)));
        }
    }

    #[test]
    fn any_node_can_be_made() {
        let code = program(&[NULL]);
        assert!(allows(&code, ACCESS_MAKE, TYPE_CHARACTER, (10, 200)));
        assert!(allows(&code, ACCESS_MAKE, 1, (8, 0)));
    }
}
