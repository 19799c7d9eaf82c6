//! Starts processes in namespaces of containers: one clone3, everything prepared beforehand.

mod child;
mod clone;
mod clone3;
mod founder;
mod pid_namespace;
mod raw;
mod report;
pub mod spec;

pub use clone::{Awaited, Child, LaunchError, Memory, Message, Messages, NewNamespaces, Start, launch, plain, prepare};
pub use founder::Founder;
