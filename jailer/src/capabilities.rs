//! From root to a pod's user, for good.

use std::io;

use crate::error::{Context, Result};
use crate::sys;

/// Numbers from <linux/capability.h>.
const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const SETPCAP: u32 = 8;
const MKNOD: u32 = 27;

/// What serving files of any owner over 9p takes.
pub const FOR_FILES: u64 = bit(CHOWN) | bit(DAC_OVERRIDE) | bit(FOWNER) | bit(FSETID) | bit(MKNOD);
pub const NONE: u64 = 0;

/// Securebits, each with its lock: root means nothing, changing the user changes no capabilities,
/// keep-caps is off, the ambient set can only shrink.
const SECUREBITS: libc::c_ulong = 0b1110_1111;

const fn bit(capability: u32) -> u64 {
    1 << capability
}

/// Becomes `uid`:`gid` with exactly the capabilities in `keep`, in every set, for this program and the next.
pub fn drop_privileges(uid: u32, gid: u32, keep: u64) -> Result<()> {
    bound(keep).during("limit capabilities")?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).during("keep capabilities")?;
    become_user(uid, gid).during("change user")?;
    // SETPCAP is needed until the securebits are set.
    set(keep | bit(SETPCAP), keep).during("set capabilities")?;
    for capability in (0..u64::BITS).filter(|number| keep & bit(*number) != 0) {
        let raise = libc::c_ulong::from(libc::PR_CAP_AMBIENT_RAISE as u32);
        sys::prctl(libc::PR_CAP_AMBIENT, raise, capability.into()).during("hand capabilities on")?;
    }
    sys::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0).during("lock securebits")?;
    set(keep, keep).during("drop capabilities")?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).during("set no-new-privs")?;
    Ok(())
}

/// The bounding set: what no exec can ever give.
fn bound(keep: u64) -> io::Result<()> {
    for capability in 0..u64::BITS {
        if keep & bit(capability) != 0 {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
            // One past the last capability that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            outcome => outcome.map(drop)?,
        }
    }
    Ok(())
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: an empty list needs no memory.
    sys::check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: plain numbers.
    sys::check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: plain numbers.
    sys::check(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set(permitted: u64, inheritable: u64) -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`: two words per set.
    const VERSION: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let words = [0, 32].map(|shift| Words {
        effective: word(permitted, shift),
        permitted: word(permitted, shift),
        inheritable: word(inheritable, shift),
    });
    // SAFETY: the two structures are laid out as the kernel expects for this version.
    sys::check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })?;
    Ok(())
}

/// 32 bits of a set.
fn word(capabilities: u64, shift: u32) -> u32 {
    u32::try_from((capabilities >> shift) & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_capabilities_are_the_five() {
        assert_eq!(FOR_FILES, 0x0800_001b);
    }
}
