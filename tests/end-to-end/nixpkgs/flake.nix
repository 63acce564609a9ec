# What of nixpkgs the project's flake uses, for machines that cannot fetch nixpkgs: the same names and shapes. Packages are
# made by the machine's own programs, and those of Rust are the binaries that the test puts into ./bin.
{
  outputs =
    _:
    let
      packages =
        system:
        let
          runCommand =
            name: _: script:
            derivation {
              inherit name system;
              builder = "/bin/sh";
              args = [
                "-ec"
                script
              ];
              PATH = "/usr/bin:/bin";
            };
          empty = name: runCommand name { } "mkdir $out";
        in
        {
          inherit runCommand;
          lib = {
            fileset = {
              unions = files: files;
              toSource = { root, fileset }: builtins.deepSeq (map builtins.pathExists fileset) "${root}";
            };
            licenses = {
              mit = { };
              asl20 = { };
            };
            platforms.linux = [ system ];
          };
          stdenv.hostPlatform = { inherit system; };
          rustPlatform.buildRustPackage =
            {
              pname,
              version,
              src,
              cargoLock,
              cargoBuildFlags,
              nativeBuildInputs,
              buildInputs,
              RUSTFLAGS,
              doCheck,
              meta,
            }:
            assert cargoBuildFlags == [ "--package" pname ] && builtins.pathExists cargoLock.lockFile;
            runCommand "${pname}-${version}" { } ''
              test -f ${src}/Cargo.toml
              mkdir -p $out/bin
              cp ${./bin}/${pname} $out/bin/
            '';
          mkShell =
            { packages }: runCommand "shell" { } "printf '%s\\n' ${toString packages} > $out";
          cacert = empty "cacert";
          cargo = empty "cargo";
          clippy = empty "clippy";
          gitMinimal = empty "git-minimal";
          glibc.static = empty "glibc-static";
          go = empty "go";
          nixfmt-rfc-style = empty "nixfmt";
          protobuf = empty "protobuf";
          rustc = empty "rustc";
          rustfmt = empty "rustfmt";
        };
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      genAttrs =
        names: make:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = make name;
          }) names
        );
    in
    {
      lib = { inherit genAttrs; };
      legacyPackages = genAttrs systems packages;
    };
}
