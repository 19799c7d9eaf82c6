use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(20);

/// Has the kernel begin to write a file to the disk again and again while it grows: in the end, when all of it must be
/// there, little is left to do. The file need not be there yet.
pub fn start(file: &'static Path) {
    thread::spawn(move || {
        while begin(file).is_ok() {
            thread::sleep(PAUSE);
        }
        // Whoever needs the file on the disk is told by his own call.
    });
}

fn begin(file: &Path) -> io::Result<()> {
    let file = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    // SAFETY: the descriptor is open, the rest are plain numbers.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::begin;

    #[test]
    fn a_file_that_is_there_and_one_that_is_not_yet() {
        let file = std::env::temp_dir().join(format!("kelyfos-write-back-{}", std::process::id()));
        assert!(begin(&file).is_ok());
        std::fs::write(&file, vec![1; 100_000]).unwrap();
        assert!(begin(&file).is_ok());
        std::fs::remove_file(&file).unwrap();
        assert!(begin(&std::env::temp_dir().join("\0")).is_err());
    }
}
