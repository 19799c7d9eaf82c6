use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let include = "../../proto";
    let contract = "../../proto/agent/v1/agent.proto";
    println!("cargo:rerun-if-changed={contract}");
    println!("cargo:rerun-if-changed=build.rs");
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .compile_fds(protox::compile([contract], [include])?)?;
    Ok(())
}
