//! What the parts of the agent share. Cheap to clone.

use crate::{reaper::Reaper, rootfs::RootFs};

#[derive(Clone, Default)]
pub struct Context {
    pub reaper: Reaper,
    pub rootfs: RootFs,
}
