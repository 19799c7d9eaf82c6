//! Starts processes in namespaces of containers: one clone3, everything prepared beforehand.

mod child;
mod clone;
mod founder;
mod raw;
mod report;
pub mod spec;

pub use clone::{Child, LaunchError, Message, Messages, NewNamespaces, launch, plain};
pub use founder::Founder;
