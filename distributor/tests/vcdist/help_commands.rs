//! Whether what messages advise can be followed.

use std::path::Path;

#[path = "../../../terminal/tests/shared/help_commands.rs"]
mod shared;

/// Options of vcbuild, kubectl, Ansible and VirtualCluster's components that messages speak of.
const FOREIGN: [&str; 9] = [
    "--as",
    "--components",
    "--enable-webhook",
    "--leader-elect-resource-lock",
    "--list",
    "--overwrite",
    "--platform",
    "--show-labels",
    "--yaml",
];

#[test]
fn advice_can_be_followed() {
    let tool = shared::Tool::of("vcdist", env!("CARGO_BIN_EXE_vcdist"), &["helper", "join", "relay"]);
    let missing = tool.missing(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &FOREIGN);
    assert!(missing.is_empty(), "messages name what there is not:\n{}", missing.join("\n"));
}
