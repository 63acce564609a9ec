# vcbuild or vcdist with nixpkgs, static as `cargo xtask dist` makes them: vcdist places itself on nodes whose C library nobody
# knows, and vcbuild runs as a builder of its own.
{ pkgs }:
let
  inherit (pkgs) lib;
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
in
name:
pkgs.rustPlatform.buildRustPackage {
  pname = name;
  inherit (manifest.workspace.package) version;
  # What Cargo reads, so that a changed page compiles nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions (
      [
        ../Cargo.toml
        ../Cargo.lock
      ]
      ++ map (member: ../. + "/${member}") manifest.workspace.members
    );
  };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    name
  ];
  nativeBuildInputs = [ pkgs.protobuf ];
  buildInputs = [ pkgs.glibc.static ];
  RUSTFLAGS = "-C target-feature=+crt-static";
  # `cargo xtask test` is what tests: it wants namespaces, a mirror and registries.
  doCheck = false;
  meta = {
    mainProgram = name;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    platforms = lib.platforms.linux;
  };
}
