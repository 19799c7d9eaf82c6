//! What the parts of the agent share. Cheap to clone.

use crate::{reaper::Reaper, rootfs::RootFs, sandbox::Sandbox};

#[derive(Clone, Debug, Default)]
pub struct Context {
    pub reaper: Reaper,
    pub rootfs: RootFs,
    pub sandbox: Sandbox,
}
