use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Of either stream.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
pub struct Run {
    program: PathBuf,
    /// Beside what the daemon was started with.
    environment: BTreeMap<String, String>,
    input: String,
}

#[derive(Debug, Serialize)]
pub struct Ended {
    stdout: String,
    stderr: String,
    code: Option<i32>,
    signal: Option<i32>,
}

/// Runs a program to its end and to that of its output, in a process group of its own, whose id `started` is told.
pub fn run(order: &Run, started: impl FnOnce(u32)) -> Result<Ended> {
    let step = |what: &str| format!("{what} {}", order.program.display());
    let mut child = Command::new(&order.program)
        .envs(&order.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Error::during(step("start")))?;
    started(child.id());
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = thread::scope(|scope| {
        scope.spawn(|| {
            // A program may end without having read what it was given.
            let _ = stdin.map(|mut pipe| pipe.write_all(order.input.as_bytes()));
        });
        let stderr = scope.spawn(|| read(stderr));
        (read(stdout), stderr.join().unwrap_or_else(|_| read(None::<io::Empty>)))
    });
    let status = child.wait().map_err(Error::during(step("wait for")))?;
    Ok(Ended {
        stdout: stdout?,
        stderr: stderr?,
        code: status.code(),
        signal: status.signal(),
    })
}

fn read(pipe: Option<impl Read>) -> Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_OUTPUT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::during("read output"))?;
    }
    if bytes.len() as u64 > MAX_OUTPUT_BYTES {
        return Err(Error::TooMuchOutput(MAX_OUTPUT_BYTES));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(script: &str, input: &str) -> Run {
        Run {
            program: "/bin/sh".into(),
            environment: BTreeMap::from([("SCRIPT".into(), script.into())]),
            // A shell without arguments reads its commands from its input.
            input: format!("{input}\neval \"$SCRIPT\"\n"),
        }
    }

    #[test]
    fn tells_output_and_end() {
        let mut pid = 0;
        let ended = run(
            &order("echo $GREETING; echo oops >&2; exit 3", "GREETING=hello"),
            |id| pid = id,
        )
        .unwrap();
        assert!(pid > 1);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("hello\n", "oops\n"));
        assert_eq!((ended.code, ended.signal), (Some(3), None));
        let ended = run(&order("kill -KILL $$", ""), |_| ()).unwrap();
        assert_eq!((ended.code, ended.signal), (None, Some(9)));
    }

    #[test]
    fn is_the_leader_of_a_group() {
        let mut pid = 0;
        let ended = run(&order("cut -d ' ' -f 5 /proc/$$/stat", ""), |id| pid = id).unwrap();
        assert_eq!(ended.stdout.trim(), pid.to_string());
    }

    #[test]
    fn hears_signals_that_this_program_does_not() {
        crate::signals::leave_end_to_input().unwrap();
        let ended = run(&order("kill -TERM $$; echo survived", ""), |_| ()).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.signal), ("", Some(15)));
    }

    #[test]
    fn takes_more_input_than_a_pipe_holds_and_bounds_output() {
        let long = format!("LONG={}", "x".repeat(300_000));
        let ended = run(&order("echo ${#LONG}", &long), |_| ()).unwrap();
        assert_eq!(ended.stdout, "300000\n");
        let error = run(&order("head -c 5000000 /dev/zero", ""), |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "more than 4194304 bytes of output");
    }

    #[test]
    fn names_the_program_that_cannot_be_started() {
        let missing = Run {
            program: "/no/such/plugin".into(),
            environment: BTreeMap::new(),
            input: String::new(),
        };
        let error = run(&missing, |_| ()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().starts_with("start /no/such/plugin: "), "{error}");
    }
}
