//! Generates the code for the helper's protocol, for the relay's, for their connections, and for the part of the CRI that it uses.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .bytes(".vcdist.helper.v1.Data")
        .compile_protos(&["proto/helper.proto", "proto/relay.proto", "proto/connections.proto"], &["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_protos(&["proto/cri.proto"], &["proto"])
}
