//! Makes one file system of an image's layers, which strangers wrote: as nobody, with limits, in a folder of its own,
//! all of which the daemon has seen to. mkfs.erofs is open as descriptor 3.
//!
//! Names of files with layers come on standard input, one a line, from the bottom up; the digest of each archive goes
//! to standard output, one a line; the result is `image.erofs`.

mod blob;
mod converter;
mod error;
mod feed;
mod member;
mod normaliser;
mod pax;
mod tar_header;
mod tree;
mod write_back;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::converter::Converter;
use crate::error::{Context, Error, Result};
use crate::feed::Feed;
use crate::normaliser::{Normaliser, Reopen};

/// The files of the layers so far.
struct Files;

impl Reopen for Files {
    fn reopen(&self, layer: usize) -> Result<Box<dyn BufRead>> {
        let archive = blob::open(&PathBuf::from(file_of(layer))).during("open a layer once more")?;
        Ok(Box::new(BufReader::new(archive)))
    }
}

fn file_of(layer: usize) -> String {
    format!("layer-{layer}")
}

fn run(arguments: &[OsString]) -> Result<()> {
    let max_bytes = match arguments {
        [text] => text.to_str().and_then(|text| text.parse().ok()),
        _ => None,
    };
    let Some(max_bytes) = max_bytes else {
        return Err(Error::Misuse("kelyfos-unpacker MAX_BYTES < names of layers"));
    };
    conceal().during("conceal the process")?;
    write_back::start(Path::new(converter::IMAGE));
    let mut feed = Feed::start(BufReader::new(io::stdin()).lines());
    let mut normaliser = Normaliser::new(max_bytes, Files);
    let mut layers = 0;
    while feed.next_layer()? {
        let mut converter = Converter::start(layers == 0)?;
        let written = normaliser.layer(&mut feed, converter.archive());
        let written = written.map_err(|error| feed.take_failure().unwrap_or(error));
        converter.finish(written)?;
        println!("{}", feed.digest().unwrap_or_default());
        layers += 1;
    }
    if layers == 0 {
        let mut converter = Converter::start(true)?;
        let written = normaliser.layer(&mut io::empty(), converter.archive());
        converter.finish(written)?;
    }
    Ok(())
}

/// mkfs.erofs, which is written in C and reads what strangers wrote, is of the same user: it must not reach into this
/// process, which vouches for the digests.
fn conceal() -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kelyfos-unpacker: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
