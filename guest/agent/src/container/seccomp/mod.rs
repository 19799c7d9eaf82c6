//! Seccomp filters: which one a process gets, compiled once and kept by content.

mod compile;
mod default;
mod policy;
mod profile;
mod syscalls;
mod tree;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use libc::sock_filter;
use thiserror::Error;

use super::capabilities::CapabilitySet;
use compile::CompileError;
use profile::ProfileError;

#[derive(Debug, Error)]
pub enum SeccompError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// A filter as the kernel takes it.
pub struct Program {
    pub code: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Default(CapabilitySet),
    Profile(Vec<u8>, CapabilitySet),
}

/// Programs by what they were made of. Containers of a pod mostly share one.
#[derive(Clone, Default)]
pub struct Programs {
    kept: Arc<Mutex<HashMap<Key, Arc<Program>>>>,
}

/// A pod has a handful; more is somebody playing.
const KEPT_PROGRAMS: usize = 32;

impl Programs {
    /// The default profile for a process with this bounding set.
    pub fn default_for(&self, bounding: CapabilitySet) -> Result<Arc<Program>, SeccompError> {
        self.get(Key::Default(bounding), || {
            let filter = default::default_filter(bounding);
            Ok(Program {
                code: compile::compile(&filter)?,
                flags: filter.flags,
            })
        })
    }

    /// A profile in the JSON of the OCI runtime specification.
    pub fn custom(&self, json: &[u8], bounding: CapabilitySet) -> Result<Arc<Program>, SeccompError> {
        self.get(Key::Profile(json.to_vec(), bounding), || {
            let filter = profile::parse(json, bounding)?;
            Ok(Program {
                code: compile::compile(&filter)?,
                flags: filter.flags,
            })
        })
    }

    fn get(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<Program, SeccompError>,
    ) -> Result<Arc<Program>, SeccompError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = kept.get(&key) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(make()?);
        if kept.len() >= KEPT_PROGRAMS {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&program));
        Ok(program)
    }
}
