use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error("there is no interface {0}")]
    NoInterface(String),
    #[error("more than {0} bytes of output")]
    TooMuchOutput(u64),
}

impl Error {
    /// Names the step that an error came in.
    pub fn during(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Step { step, source }
    }

    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Step { source, .. } => source.raw_os_error(),
            Self::NoInterface(_) | Self::TooMuchOutput(_) => None,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
