//! Does what programs do when they start, once of each kind, so that the kernel of a guest that waits
//! for a pod has run the code for it: under emulation that code is translated then, and under any
//! hypervisor its pages are in memory. Says a line, and with `wait` as its argument waits for a signal.
//!
//! What only the program of a real image brings along, its own code, cannot be rehearsed.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read, Write},
    process::ExitCode,
};

mod files;
mod memory;
mod network;
mod processes;

type Outcome = Result<(), Box<dyn Error>>;

/// A part and its name in the error.
type Part = (&'static str, fn() -> Outcome);

const PARTS: [Part; 7] = [
    ("identity", processes::ask),
    ("files", files::read),
    ("writes", files::write),
    ("memory", memory::use_it),
    ("processes", processes::start),
    ("signals", processes::signal),
    ("network", network::talk),
];

fn main() -> ExitCode {
    let argument = env::args().nth(1).unwrap_or_default();
    if argument == processes::CHILD {
        return processes::child();
    }
    for (name, part) in PARTS {
        if let Err(error) = part() {
            // Nobody would see it if standard error were broken as well.
            let _ = writeln!(io::stderr(), "rehearsal of {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!("rehearsal");
    if argument == "wait" {
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}

/// The whole of a file whose size is not known before, as of those in /proc.
fn read_all(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}
