# Every input that a vcbuild.lock pins, in one folder: a fixed-output derivation, the one step that uses the network.
{
  # The vcbuild: a static binary as a file, or a package with bin/vcbuild.
  vcbuild,
  # Packages whose programs vcbuild finds: a Go says where modules come from.
  tools ? [ ],
  src,
  lock,
  # The hash of the folder. Leave it empty once, and Nix says what it is.
  hash ? "",
  project ? null,
  subdir ? null,
  base ? null,
  go ? null,
  platforms ? [ ],
  # Where Go modules and the toolchain, and Debian packages come from: as GOPROXY and VCBUILD_DEBIAN_MIRROR, which are taken
  # from the environment of the Nix that builds where nothing is said here. What the lock pins checks them.
  goProxy ? null,
  debianMirror ? null,
  # The certificates by which HTTPS is checked: a file, as "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt".
  certificates ? null,
  name ? "inputs",
  system ? builtins.currentSystem,
}:
let
  variable = name: value: if value == null then { } else { ${name} = "${value}"; };
in
import ./command.nix {
  inherit vcbuild name system;
  arguments = [
    "fetch"
    "--locked"
    "--to"
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
  };
  environment = {
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = hash;
    impureEnvVars = [
      "GOPROXY"
      "VCBUILD_DEBIAN_MIRROR"
      "http_proxy"
      "https_proxy"
      "no_proxy"
    ];
  }
  // variable "GOPROXY" goProxy
  // variable "VCBUILD_DEBIAN_MIRROR" debianMirror
  // variable "SSL_CERT_FILE" certificates
  // variable "PATH" (if tools == [ ] then null else builtins.concatStringsSep ":" (map (tool: "${tool}/bin") tools));
}
