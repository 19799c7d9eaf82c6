//! System calls without libc.
//!
//! Between clone3 and execve the child is a copy of a process that may have had several threads: a
//! lock that one of them held stays locked for ever. Or it shares that process's memory. So it must not allocate, not
//! unwind, and not use what libc keeps per thread (errno, cached ids).

// Arguments are words whatever their type; the few functions must not be calls in the child of a debug build.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, clippy::inline_always)]

use std::arch::asm;

/// # Safety
/// The arguments must be what the kernel expects for that number.
#[inline(always)]
pub unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 system call convention; the kernel changes rax, rcx and r11 and whatever
    // memory the caller has vouched for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// `raw!(NAME, arguments...)`: the system call `SYS_NAME`, up to six arguments cast to words. The
/// result is the kernel's: negative for an error.
macro_rules! raw {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::container::launcher::raw::syscall(
            libc::$name,
            $crate::container::launcher::raw::padded([$(
                {
                    #[allow(clippy::cast_sign_loss)] // a word is a word
                    let word = $argument as usize;
                    word
                }
            ),*]),
        )
    };
}
pub(super) use raw;

#[inline(always)]
pub fn padded<const GIVEN: usize>(given: [usize; GIVEN]) -> [usize; 6] {
    let mut words = [0; 6];
    for (word, value) in words.iter_mut().zip(given) {
        *word = value;
    }
    words
}
