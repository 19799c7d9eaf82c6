//! kelyfos-agent: PID 1 of a guest. It serves proto/agent/v1 on a virtio-serial port.

mod boot;
mod clock;
mod container;
mod context;
mod disks;
mod entropy;
mod log;
mod maintenance;
mod modules;
mod mounts;
mod network;
mod paths;
mod pod_files;
mod port;
mod port_forward;
mod proto;
mod reaper;
mod reset;
mod rootfs;
mod sandbox;
mod server;
mod service;
mod session;
mod share;
mod sysctl;

use std::{io, process::ExitCode};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// For work that waits in the kernel, beside the threads of containers that are held before their start.
const MAX_BLOCKING_THREADS: usize = 16 + container::MAX_CONTAINERS;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        log!("{} runs as PID 1 of a kelyfos guest only", env!("CARGO_PKG_VERSION"));
        return ExitCode::FAILURE;
    }
    // The kernel panics when PID 1 ends, and the host then reads the reason from the console.
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!("cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    boot::run()?;
    // Programs that are on their way to execve share its memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // One thread for everything that does not block the kernel.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()?;
    runtime.block_on(async { tokio::spawn(server::serve()).await.map_err(io::Error::other)? })
}
