//! Starts processes in namespaces of containers: one clone3, everything prepared beforehand.

mod child;
mod clone;
mod clone3;
mod founder;
mod pid_namespace;
mod raw;
mod report;
pub mod spec;

pub use clone::{Child, LaunchError, Memory, Message, Messages, NewNamespaces, launch, plain};
pub use founder::Founder;
