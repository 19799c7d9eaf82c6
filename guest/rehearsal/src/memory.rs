//! Mappings: a heap that grows, files mapped as a dynamic linker maps libraries, and threads.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    ptr,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap};

use crate::Outcome;

const PAGE: usize = 4096;
/// Of the image's data file: larger than what the kernel reads ahead at once.
const DATA: &str = "/data/pages";
const DATA_PAGES: usize = 96;
const ANONYMOUS_PAGES: usize = 24;

pub fn use_it() -> Outcome {
    let mut heap = Vec::new();
    for size in [100, 10_000, 200_000] {
        heap.push(vec![1u8; size]);
    }
    drop(heap);
    anonymous()?;
    mapped_file()?;
    threads()?;
    Ok(())
}

fn anonymous() -> io::Result<()> {
    let length = ANONYMOUS_PAGES * PAGE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    for page in 0..ANONYMOUS_PAGES {
        // SAFETY: inside of the mapping, which is writable and ours.
        let place = unsafe { start.cast::<u8>().add(page * PAGE) };
        // SAFETY: as above; nothing else knows the address.
        unsafe { place.write_volatile(1) };
    }
    // SAFETY: the whole mapping; nothing reads it afterwards.
    unsafe { mprotect(start, length, MprotectFlags::READ) }?;
    // SAFETY: as above.
    unsafe { madvise(start, length, Advice::LinuxDontNeed) }?;
    // SAFETY: as above.
    unsafe { munmap(start, length) }?;
    Ok(())
}

/// As code and data of a library: private, some pages written to.
fn mapped_file() -> io::Result<()> {
    let file = File::open(DATA)?;
    let length = DATA_PAGES * PAGE;
    // SAFETY: a new mapping at an address of the kernel's choice, of a file of the image, which is read-only.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
            file.as_fd(),
            0,
        )
    }?;
    for page in 0..DATA_PAGES {
        // SAFETY: inside of the mapping, which is as long as the file.
        let place = unsafe { start.cast::<u8>().add(page * PAGE) };
        // SAFETY: as above; nothing else knows the address.
        let value = unsafe { place.read_volatile() };
        if page % 16 == 0 {
            // SAFETY: as above, and writable.
            unsafe { place.write_volatile(value.wrapping_add(1)) };
        }
    }
    // SAFETY: the first half of the mapping, as a linker protects what it has relocated.
    unsafe { mprotect(start, length / 2, MprotectFlags::READ) }?;
    // SAFETY: the whole mapping.
    unsafe { mprotect(start, length, MprotectFlags::READ | MprotectFlags::EXEC) }?;
    // SAFETY: nothing reads it afterwards.
    unsafe { munmap(start, length) }?;
    Ok(())
}

/// They wait for each other and for a clock.
fn threads() -> Outcome {
    let state = Arc::new((Mutex::new(0u32), Condvar::new()));
    let (sender, receiver) = mpsc::channel();
    let workers: Vec<_> = (0..3)
        .map(|number| {
            let (state, sender) = (Arc::clone(&state), sender.clone());
            thread::spawn(move || {
                *state.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                state.1.notify_all();
                thread::sleep(Duration::from_millis(1));
                sender.send(number)
            })
        })
        .collect();
    let guard = state.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(
        state
            .1
            .wait_while(guard, |ready| *ready < 3)
            .unwrap_or_else(PoisonError::into_inner),
    );
    for _ in &workers {
        receiver.recv()?;
    }
    for worker in workers {
        worker.join().map_err(|_| "a thread has panicked")??;
    }
    Ok(())
}
