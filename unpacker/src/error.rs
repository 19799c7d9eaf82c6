use std::io;

/// What ends the program; the daemon tells the kinds apart by the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("corrupt image: layer is not a proper tar: {0}")]
    Malformed(String),
    #[error("corrupt image: it cannot be decompressed: {0}")]
    Compression(io::Error),
    #[error("image has a file in a sparse form of GNU tar, which is not supported: {0}")]
    Sparse(String),
    #[error("image unpacks to more than the limit of {0} bytes")]
    TooBig(u64),
    /// Its own words are on standard error already.
    #[error("mkfs.erofs ended with {0}")]
    Converter(std::process::ExitStatus),
    #[error("misuse: {0}")]
    Misuse(&'static str),
    #[error("{step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

impl Error {
    /// As in src/image/unpacker.ts.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Malformed(_) | Self::Compression(_) | Self::Sparse(_) => 65,
            Self::TooBig(_) => 66,
            Self::Converter(_) => 67,
            Self::Misuse(_) => 2,
            Self::Step { .. } => 1,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

pub trait Context<T> {
    fn during(self, step: &'static str) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn during(self, step: &'static str) -> Result<T> {
        self.map_err(|source| Error::Step { step, source })
    }
}

pub fn malformed<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Malformed(why.into()))
}
