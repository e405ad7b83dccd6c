//! Compiles the protocol buffers without protoc: protox parses them in this process.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sources = ["router", "admin", "peer", "relay", "store", "enrolment"].map(|name| format!("proto/{name}.proto"));
    for source in &sources {
        println!("cargo::rerun-if-changed={source}");
    }
    let descriptors = protox::compile(&sources, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost_bytes(&descriptors))?;
    tonic_prost_build::configure()
        // Deterministic encoding: canonical bytes may not depend on a hash map's order.
        .btree_map(".")
        .bytes(".pilothouse.router.v1.ListUpdate.list")
        // Secrets are in them: nobody prints them by accident.
        .skip_debug([
            ".pilothouse.enrolment.v1.EnrollRequest",
            ".pilothouse.enrolment.v1.JoinToken",
            ".pilothouse.admin.v1.CreateTokenResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
