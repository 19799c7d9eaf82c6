//! The kernel's random number generator. Two clones of a template must never go on from its state.

use std::{fs::File, io, os::fd::AsRawFd};

/// Numbers of linux/random.h; the second is `_IO('R', 0x07)`.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
pub const MIN_BYTES: usize = 32;
pub const MAX_BYTES: usize = 512;

/// `struct rand_pool_info` with room for the largest seed.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    bytes: libc::c_int,
    seed: [u8; MAX_BYTES],
}

/// Credits the seed and makes the generator start afresh from it. Longer seeds are cut.
pub fn reseed(seed: &[u8]) -> io::Result<()> {
    let mut info = PoolInfo {
        entropy_bits: 0,
        bytes: 0,
        seed: [0; MAX_BYTES],
    };
    let length = seed.len().min(MAX_BYTES);
    info.seed[..length].copy_from_slice(&seed[..length]);
    info.bytes = i32::try_from(length).unwrap_or(0);
    info.entropy_bits = info.bytes * 8;
    let random = File::options().write(true).open("/dev/random")?;
    // SAFETY: the kernel reads `bytes` bytes of `seed`, no more than it has, and keeps no pointer.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) })
}

pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: writes at most N bytes into `bytes`. Requests of up to 256 bytes are never cut short.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if usize::try_from(count) == Ok(N) {
        Ok(bytes)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
