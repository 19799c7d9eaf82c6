//! The contract with the host, generated from proto/agent/v1/agent.proto.
#![allow(clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/kelyfos.agent.v1.rs"));
