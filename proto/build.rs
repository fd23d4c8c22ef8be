//! Compiles the .proto files with protox, so no system protoc is needed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const FILES: &[&str] = &[
    "control/v1/adapters.proto",
    "control/v1/admin.proto",
    "control/v1/billing.proto",
    "control/v1/conversation.proto",
    "control/v1/inference.proto",
    "control/v1/models.proto",
    "control/v1/node.proto",
    "control/v1/privacy.proto",
    "control/v1/vitals.proto",
    "gateway/v1/admin.proto",
    "mesh/v1/mesh.proto",
    "runtime/v1/runtime.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".synesis.mesh.v1").compile_fds(descriptors)?;
    Ok(())
}
