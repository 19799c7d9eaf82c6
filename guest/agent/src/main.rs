//! kelyfos-agent: PID 1 of a guest.

mod container;
mod context;
mod disks;
mod paths;
mod proto;
mod reaper;
mod rootfs;
mod service;

use std::process::ExitCode;

use crate::{container::Containers, context::Context, service::Service};

fn main() -> ExitCode {
    let context = Context::default();
    let _service = Service::new(Containers::new(context));
    ExitCode::SUCCESS
}
