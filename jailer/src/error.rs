use std::io;
use std::path::{Path, PathBuf};

/// One line on stderr: the step, what it was about, the kernel's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("usage: {0}")]
    Usage(String),
    #[error("{step}: {path}: {source}", path = .path.display())]
    Path {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

pub type Result<T> = std::result::Result<T, Error>;

/// Says during which step, and with which path, a kernel call failed.
pub trait Context<T> {
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T>;
    fn during(self, step: &'static str) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn at(self, step: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Path {
            step,
            path: path.as_ref().to_path_buf(),
            source,
        })
    }

    fn during(self, step: &'static str) -> Result<T> {
        self.map_err(|source| Error::Step { step, source })
    }
}
