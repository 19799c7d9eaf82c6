//! Errors of container calls, and the status that each becomes.

use std::io;

use thiserror::Error;
use tonic::Status;

use super::{
    cgroup::CgroupError,
    device_program::DeviceError,
    launcher::{LaunchError, plain},
    mounts::MountError,
    process::ProcessError,
    users::UserError,
    volumes::VolumeError,
};
use crate::{disks::DiskError, rootfs::RootFsError};

#[derive(Debug, Error)]
pub enum ContainerError {
    #[error("{field}: {value:?} is not {expected}")]
    Invalid {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("no container {0}")]
    NotFound(String),
    #[error("container {0} exists already")]
    Exists(String),
    #[error("container {id} is {found}, not {wanted}")]
    State {
        id: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error("container {id} has no {what}")]
    Lacks { id: String, what: &'static str },
    /// Why `StartContainer` has failed, again.
    #[error("{0}")]
    StartFailed(String),
    #[error("container {id}: {step}: {}", plain(.source))]
    Io {
        id: String,
        step: &'static str,
        source: io::Error,
    },
    #[error("container {id}: a task was lost")]
    TaskLost { id: String },
    #[error(transparent)]
    RootFs(#[from] RootFsError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("a second call for the output of container {0} has taken over")]
    Superseded(String),
    #[error("container {0} was removed")]
    Removed(String),
}

impl From<ContainerError> for Status {
    fn from(error: ContainerError) -> Self {
        let message = error.to_string();
        match error {
            ContainerError::RootFs(inner) => inner.into(),
            ContainerError::Invalid { .. } => Self::invalid_argument(message),
            ContainerError::NotFound(_) | ContainerError::Removed(_) => Self::not_found(message),
            ContainerError::Exists(_) => Self::already_exists(message),
            ContainerError::State { .. } | ContainerError::Lacks { .. } | ContainerError::StartFailed(_) => {
                Self::failed_precondition(message)
            }
            ContainerError::Superseded(_) => Self::aborted(message),
            ContainerError::Io { .. } | ContainerError::TaskLost { .. } => Self::internal(message),
            ContainerError::Mount(inner) => mount_status(&inner, message),
            ContainerError::Process(inner) => match inner {
                ProcessError::User(UserError::Read { .. }) => Self::internal(message),
                _ => Self::invalid_argument(message),
            },
            ContainerError::Cgroup(inner) => cgroup_status(&inner, message),
            ContainerError::Device(inner) => match inner {
                DeviceError::Kernel { .. } | DeviceError::List { .. } => Self::internal(message),
                DeviceError::Absent { .. } => Self::failed_precondition(message),
                DeviceError::Disk(DiskError::NotFound(_)) => Self::not_found(message),
                _ => Self::invalid_argument(message),
            },
            ContainerError::Launch(inner) => match inner {
                LaunchError::Execute { .. } => Self::failed_precondition(message),
                _ => Self::internal(message),
            },
        }
    }
}

fn mount_status(error: &MountError, message: String) -> Status {
    match error {
        MountError::Disk(DiskError::NotFound(_)) => Status::not_found(message),
        MountError::Disk(DiskError::List(_))
        | MountError::Mount { .. }
        | MountError::Volume(VolumeError::Copy { .. } | VolumeError::RootFs(_)) => Status::internal(message),
        MountError::Volume(VolumeError::NotFolder { .. }) => Status::failed_precondition(message),
        MountError::Source { source, .. } if source.kind() == io::ErrorKind::NotFound => Status::not_found(message),
        _ => Status::invalid_argument(message),
    }
}

fn cgroup_status(error: &CgroupError, message: String) -> Status {
    match error {
        CgroupError::UnifiedName(_) => Status::invalid_argument(message),
        CgroupError::InUse { .. } => Status::failed_precondition(message),
        // What the kernel says of a value that it does not take.
        CgroupError::Limit { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ERANGE | libc::ENOENT)) =>
        {
            Status::invalid_argument(message)
        }
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn each_error_has_its_status() {
        let status = |error: ContainerError| {
            let status = Status::from(error);
            (status.code(), status.message().to_owned())
        };
        let execute = LaunchError::Execute {
            argv0: "/bin/nope".to_owned(),
            reason: "no such file".to_owned(),
        };
        assert_eq!(
            status(execute.into()),
            (Code::FailedPrecondition, "exec: \"/bin/nope\": no such file".to_owned())
        );
        assert_eq!(
            status(UserError::UnknownUser("x".to_owned()).into_process()),
            (
                Code::InvalidArgument,
                "process.user: no user \"x\" in the container's /etc/passwd".to_owned()
            )
        );
        let (file, value) = ("pids.max".to_owned(), "x".to_owned());
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        assert_eq!(
            status(
                CgroupError::Limit {
                    field: "pids_limit",
                    file,
                    value,
                    source
                }
                .into()
            )
            .0,
            Code::InvalidArgument
        );
    }

    impl UserError {
        fn into_process(self) -> ContainerError {
            ProcessError::from(self).into()
        }
    }
}
