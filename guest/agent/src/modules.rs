//! Kernel modules of the guest image.

use std::{fs, io, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    system::finit_module,
};

use crate::log;

const FOLDER: &str = "/lib/modules";

/// Loads the modules that the image lists, in its order, which has every module after those it needs.
/// One that fails is logged: what needs it will say so later, with more to go by.
pub fn load_all() -> io::Result<()> {
    for name in fs::read_to_string(Path::new(FOLDER).join("order"))?.lines() {
        if let Err(error) = load(name) {
            log!("kernel module {name}: {error}");
        }
    }
    Ok(())
}

fn load(name: &str) -> io::Result<()> {
    let path = Path::new(FOLDER).join(format!("{name}.ko"));
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
