//! Starts QEMU so that a guest which escapes it finds its own pod and nothing else.
//!
//! Every subcommand is single-threaded and runs as root; `run` ends in an exec, so the process id
//! that the parent spawned is QEMU's.

mod bind;
mod capabilities;
mod cli;
mod descriptors;
mod device_policy;
mod error;
mod hold;
mod id_map;
mod jail;
mod limits;
mod mounts;
mod namespaces;
mod pass;
mod run;
mod seal;
mod sys;
mod syscalls;

use std::process::ExitCode;

use crate::cli::Command;
use crate::error::Error;

/// What a shell uses for "could not be started".
const EXIT_FAILED: u8 = 127;
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Run(request) => run::run(&request).map(|never| match never {}),
        Command::Hold { name, size } => hold::hold(&name, size).map(|never| match never {}),
        Command::Seal { path } => seal::seal(&path),
        Command::Confine { cgroup, kvm } => device_policy::apply(&[cgroup], kvm),
        Command::Bind(request) => bind::bind(&request),
        Command::Mappable { folder } => id_map::probe(&folder),
        Command::Pass { device, writable } => pass::pass(&device, writable),
        Command::Help => {
            print!("{}", cli::USAGE);
            Ok(())
        }
        Command::Version => {
            println!("kelyfos-jailer {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kelyfos-jailer: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) {
                EXIT_USAGE
            } else {
                EXIT_FAILED
            })
        }
    }
}
