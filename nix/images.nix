# Images as one Nix derivation that needs a vcbuild and nothing else: no nixpkgs, no shell, no network.
#
# `vcbuild fetch` has brought every input that vcbuild.lock pins into one folder (`inputs`); vcbuild builds from that folder
# alone. What it makes is what `vcbuild images` makes anywhere else, digest for digest. The output holds the archives.
{
  # The vcbuild: a static binary as a file, or a package with bin/vcbuild.
  vcbuild,
  # The folder with the code.
  src,
  # The lock that pins the inputs.
  lock,
  # The folder that `vcbuild fetch --to` made: a path, or the derivation of ./inputs.nix.
  inputs,
  # The project's file; without one the source's own vcbuild.toml, else VirtualCluster's, which is built in.
  project ? null,
  # The folder within the source that has the go.mod.
  subdir ? null,
  # As the command line has it; null is as the project has it.
  base ? null,
  go ? null,
  # Lists; empty is as the project has it.
  platforms ? [ ],
  components ? [ ],
  # Further arguments of `vcbuild images`, as [ "--stamp" "version=v1.2.3" ].
  arguments ? [ ],
  name ? "images",
  system ? builtins.currentSystem,
}:
import ./command.nix {
  inherit vcbuild name system;
  arguments = [
    "images"
    "--locked"
    "--inputs"
    "${inputs}"
    "--out"
    (builtins.placeholder "out")
  ]
  ++ import ./options.nix {
    inherit
      src
      lock
      project
      subdir
      base
      go
      platforms
      ;
  }
  ++ (if components == [ ] then [ ] else [ "--components" (builtins.concatStringsSep "," components) ])
  ++ arguments;
}
