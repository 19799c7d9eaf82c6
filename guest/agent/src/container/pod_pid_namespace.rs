//! The pid namespace that containers of a pod share when they ask for it: kept by a process that does
//! nothing, so that none of the containers is the first process of the others.

use std::os::fd::{AsFd, OwnedFd};

use super::{
    cgroup::Cgroup,
    error::ContainerError,
    launcher::{
        Child, LaunchError, Memory, Message, NewNamespaces, launch,
        spec::{Entry, Finish, Launch},
    },
};
use crate::{
    paths,
    reaper::{Reaper, Watch},
};

/// No container can have this id.
const CGROUP_NAME: &str = "_pause";

#[derive(Debug)]
struct Holder {
    pidfd: OwnedFd,
    ended: Watch,
}

#[derive(Debug, Default)]
pub struct PodPidNamespace {
    holder: tokio::sync::Mutex<Option<Holder>>,
}

impl PodPidNamespace {
    /// A descriptor of the process that keeps the namespace, made on first use.
    pub async fn holder(&self, reaper: &Reaper) -> Result<OwnedFd, ContainerError> {
        let mut holder = self.holder.lock().await;
        // The kernel may have killed it for want of memory, and everything in the namespace with it.
        if holder.as_mut().is_some_and(|it| it.ended.try_recv().is_ok()) {
            *holder = None;
        }
        let current = match holder.take() {
            Some(current) => current,
            None => make(reaper).await?,
        };
        let copy = current.pidfd.try_clone();
        *holder = Some(current);
        copy.map_err(|source| {
            LaunchError::Step {
                step: "copy a descriptor".to_owned(),
                source,
            }
            .into()
        })
    }
}

async fn make(reaper: &Reaper) -> Result<Holder, ContainerError> {
    let child = fork(reaper)?;
    match child.messages.next().await? {
        Message::Ready => Ok(Holder {
            pidfd: child.pidfd,
            ended: child.watch,
        }),
        _ => Err(LaunchError::Ended.into()),
    }
}

fn fork(reaper: &Reaper) -> Result<Child, ContainerError> {
    let cgroup = Cgroup::parent(paths::CGROUP.as_ref())?
        .create_child(CGROUP_NAME)?
        .open()?;
    let new = NewNamespaces {
        mount: true,
        pid: true,
        ipc: false,
    };
    let pause = Launch {
        entry: Entry::Empty,
        finish: Finish::Pause,
        descriptors: Vec::new(),
    };
    let cgroup = cgroup.as_fd();
    Ok(launch(reaper, pause, "", new, None, cgroup, Memory::Copied)?)
}
