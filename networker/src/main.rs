//! Does the daemon's work on networks, for which it would have to start a program each time: starting one takes the
//! daemon milliseconds, in which it does nothing else, because its memory is large.
//!
//! Calls come on standard input and answers go to standard output, one JSON document a line, in any order; calls are
//! worked on side by side. The end of the input ends the program. What it has started goes on, as it would without it.

mod call;
mod error;
mod join;
mod namespace;
mod network;
mod outer_end;
mod plugin;
mod signals;
mod tap;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::thread;

use crate::call::{Answer, Call, Outcome, Work};
use crate::error::Error;

fn main() -> ExitCode {
    if let Err(error) = signals::leave_end_to_input() {
        eprintln!("kelyfos-networker: {error}");
        return ExitCode::FAILURE;
    }
    for line in io::stdin().lock().lines() {
        let call = line.and_then(|line| serde_json::from_str::<Call>(&line).map_err(io::Error::other));
        let call = match call {
            Ok(call) => call,
            Err(error) => {
                eprintln!("kelyfos-networker: {error}");
                return ExitCode::FAILURE;
            }
        };
        let id = call.id;
        // A namespace is entered by one thread alone: each call has its own.
        let started = thread::Builder::new().spawn(move || answer(id, work(call)));
        if let Err(error) = started {
            answer(id, Outcome::from(Error::during("start a thread")(error)));
        }
    }
    ExitCode::SUCCESS
}

fn work(Call { id, work }: Call) -> Outcome {
    let done = match work {
        Work::Run(order) => plugin::run(&order, |pid| answer(id, Outcome::Started(pid))).map(Outcome::Ended),
        Work::Join(order) => join::join(&order).map(Outcome::Network),
        Work::Make(order) => namespace::make(&order).map(|()| Outcome::Done {}),
        Work::Forget { namespace } => namespace::forget(&namespace).map(|()| Outcome::Done {}),
    };
    done.unwrap_or_else(Outcome::from)
}

fn answer(id: u64, outcome: Outcome) {
    let written = serde_json::to_string(&Answer { id, outcome })
        .map_err(io::Error::other)
        .and_then(|text| {
            let mut output = io::stdout().lock();
            output.write_all(format!("{text}\n").as_bytes())?;
            output.flush()
        });
    // Without anybody who listens there is nothing left to do.
    if written.is_err() {
        std::process::exit(1);
    }
}
